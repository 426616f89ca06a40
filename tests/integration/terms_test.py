"""The terms of the reward, summed over episodes."""

import json

import numpy as np
import pytest
import worlds
from programs import run
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

from trpo_tf.config import SamplerConfig
from trpo_tf.experiment.evaluation import Evaluation
from trpo_tf.policies.normalizer import initial_normalizer
from trpo_tf.sampling.native.paths import NativePathSampler
from trpo_tf.tasks.registry import NATIVE_TASKS
from trpo_tf.tasks.task import compile_task


def _sampler(compiled, **options):
  config = SamplerConfig(num_slots=4, batch_steps=80, **options)
  acting = worlds.actor(compiled)
  sampler = NativePathSampler(
    compiled, acting.policy, worlds.experiment(config)
  )
  return sampler, acting.theta


# whose rewards are the sums of their terms
@pytest.mark.parametrize('name', ['Hopper-v5', 'HalfCheetah-v5', 'Ant-v5'])
def test_terms_of_an_episode_add_up_to_its_return(name):
  compiled = compile_task(NATIVE_TASKS[name])
  sampler, theta = _sampler(compiled)
  normalizer = initial_normalizer(compiled.observation_size)
  episodes = 0
  for iteration in range(60):  # 1200 steps of each slot
    batch = sampler.sample(theta, normalizer, iteration)
    assert list(batch.episode_terms) == list(compiled.term_names)
    total = sum(batch.episode_terms.values())
    np.testing.assert_allclose(total, batch.episode_returns, rtol=1e-10)
    episodes += len(total)
  assert episodes >= 1


def test_terms_go_on_after_a_resume():
  compiled = compile_task(NATIVE_TASKS['HalfCheetah-v5'])
  normalizer = initial_normalizer(compiled.observation_size)
  sampler, theta = _sampler(compiled)
  for iteration in range(12):  # the first slot's episode ends after 250 steps
    sampler.sample(theta, normalizer, iteration)
  again, _ = _sampler(compiled)
  again.restore(sampler.state())
  for iteration in range(12, 70):
    one, other = (
      s.sample(theta, normalizer, iteration) for s in (sampler, again)
    )
    for name, sums in one.episode_terms.items():
      np.testing.assert_array_equal(other.episode_terms[name], sums)


@pytest.mark.slow
def test_terms_are_reported(tmp_path):
  flags = '--task=Hopper-v5 --batch_steps=400 --total_iterations=2'
  (trained,) = run('train', [[*flags.split(), '--run_dir=r']], tmp_path)
  assert trained.code == 0
  events = event_accumulator.EventAccumulator(str(tmp_path / 'r/tensorboard'))
  events.Reload()
  names = compile_task(NATIVE_TASKS['Hopper-v5']).term_names
  terms = {f'terms/{name}' for name in names}

  def last(tag):
    return tensor_util.make_ndarray(events.Tensors(tag)[-1].tensor_proto)

  returns = last('episode/return_mean')
  total = sum(last(tag) for tag in terms)
  assert total == pytest.approx(returns, rel=1e-5)
  (done,) = run('evaluate', [['--run_dir=r', '--episodes=3']], tmp_path)
  assert done.code == 0 and 'reward_forward' in done.stdout
  found = json.loads((tmp_path / 'r/evaluation.json').read_text())['sampled']
  total = sum(found['terms'].values())
  assert total == pytest.approx(found['return']['mean'], rel=1e-10)


def test_a_mean_that_is_not_finite_is_null():
  terms = {'gain': np.array([1.0, 2.0]), 'cost': np.array([np.nan, 1.0])}
  found = Evaluation(np.ones(2), np.ones(2, int), terms, 0).summary()
  assert found['terms'] == {'gain': 1.5, 'cost': None}
