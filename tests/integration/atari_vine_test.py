"""The vine on Atari games: whoever samples it, and what it stores."""

import itertools
import os
import signal

import numpy as np
import pytest
import worlds
from plain_atari import Policy

from trpo_tf.config import AtariConfig, SamplerConfig
from trpo_tf.sampling.atari import pool
from trpo_tf.sampling.atari.branching import AtariVine
from trpo_tf.sampling.atari.paths import AtariPathSampler
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.vine import VineSampler
from trpo_tf.tasks.atari import find_game

pytestmark = pytest.mark.slow

SEED, GAMMA = 3, 0.95
SETTINGS = dict(
  num_slots=5,
  batch_steps=200,
  rollout_set_size=14,
  branch_actions=4,
  branch_trials=2,
  branch_length=7,
  branch_time_limit=True,
)


def find():
  config = AtariConfig(
    sticky_actions=0.3, life_loss_ends_return=True, frame_skip=9
  )
  return find_game('atari/qbert', config, time_limit=45)


def make(workers=2, vine=True, **settings):
  game = find()
  policy = Policy(game)
  config = SamplerConfig(sampler_threads=workers, **SETTINGS | settings)
  experiment = worlds.experiment(config, SEED, GAMMA)
  paths = AtariPathSampler(game, policy, experiment)
  if not vine:
    return paths, policy
  return VineSampler(AtariVine(paths, experiment), config, SEED), policy


def sample(made, iteration):
  sampler, policy = made
  return sampler.sample(policy.theta, None, iteration)


def to_bytes(batch):
  fields = {
    name: field.tobytes() if isinstance(field, np.ndarray) else field
    for name, field in vars(batch).items()
  }
  del fields['deaths']
  return fields


@pytest.fixture(scope='module')
def reference():
  """A sampler of two workers, its state after a batch, and three batches."""
  made = make()
  first = sample(made, 0)
  state = made[0].state()
  return made, state, [first, sample(made, 1), sample(made, 2)]


@pytest.mark.parametrize('workers', [1, 3])
def test_number_of_workers_changes_nothing(reference, workers):
  _, _, batches = reference
  made = make(workers)
  for iteration, expected in enumerate(batches[:2]):
    assert to_bytes(sample(made, iteration)) == to_bytes(expected)


def test_trunks_are_those_of_single_path_sampling(reference):
  _, _, batches = reference
  made = make(vine=False)
  for iteration, vine in enumerate(batches):
    path = sample(made, iteration)
    count = len(path.frames)
    for name, field in vars(path).items():
      actual = getattr(vine, name)
      if name == 'frames':
        actual = actual[:count]
      np.testing.assert_array_equal(actual, field, name)


def test_restored_sampler_goes_on(reference):
  _, state, batches = reference
  made = make(1)
  sample(made, 5)
  made[0].restore(state)
  for iteration in (1, 2):
    assert to_bytes(sample(made, iteration)) == to_bytes(batches[iteration])


def test_equal_first_actions_earn_equal_returns(reference):
  """Noise and the emulators' draws are common to the actions of a state."""
  equal, differing = 0, 0
  for batch in reference[2]:
    for n, j, k in itertools.product(range(14), range(4), range(4)):
      same = (
        (batch.branch_returns[n, j] == batch.branch_returns[n, k]).all()
        and (batch.branch_lengths[n, j] == batch.branch_lengths[n, k]).all()
        and (
          batch.stacks(batch.final_observations[n, j])
          == batch.stacks(batch.final_observations[n, k])
        ).all()
      )
      actions = batch.first_actions[n]
      if j < k and (actions[j] == actions[k]).all():
        equal += 1
        assert same
      elif j < k:
        differing += not same
  assert equal > 5 and differing > 20


def is_alive(batch):
  """Branches that did not terminate."""
  return (batch.branch_ends & End.TERMINATED) == 0


def num_trunk_frames(batch):
  """Frames but those that end a branch: its last four, if it has four."""
  ends = np.minimum(batch.branch_lengths, 4)[is_alive(batch)]
  return len(batch.frames) - ends.sum()


def test_frames_of_branches_are_stored_at_their_ends_only(reference):
  _, _, batches = reference
  ended, short = 0, 0
  for batch in batches:
    lengths, alive = batch.branch_lengths, is_alive(batch)
    ended += (~alive).sum()
    short += (alive & (lengths < 4)).sum()
    first = num_trunk_frames(batch)
    finals = batch.final_observations
    assert finals.dtype == np.int32
    assert not finals[~alive].any()
    for n, k, m in np.argwhere(alive):
      count = min(lengths[n, k, m], 4)
      old, new = np.split(finals[n, k, m], [4 - count])
      assert (old == batch.at_rollout_set(batch.observations)[n, count:]).all()
      assert (new >= first).all()
    new = finals[finals >= first]
    assert sorted(new) == list(range(first, len(batch.frames)))
  assert ended > 3 and short > 3


def kill(sampler, worker=0):
  os.kill(sampler.backend.paths.pool.process_ids[worker], signal.SIGKILL)


# the first 5 results are the trunks', then come 14 of the branches
@pytest.mark.parametrize('results', [1, 5, 9])
def test_dead_worker_is_reported_and_its_work_done_again(
  reference, monkeypatch, results
):
  made, state, batches = reference
  made[0].restore(state)
  receive, received = pool._Worker.receive, []

  def fatal(worker):
    received.append(receive(worker))
    if len(received) == results:
      kill(made[0])
    return received[-1]

  monkeypatch.setattr(pool._Worker, 'receive', fatal)
  batch = sample(made, 1)
  (death,) = batch.deaths
  assert 'was killed by SIGKILL, with ' in death
  assert ('branches of a state' in death) == (results >= 5)
  assert to_bytes(batch) == to_bytes(batches[1])
  following = sample(made, 2)
  assert following.deaths == ()
  assert to_bytes(following) == to_bytes(batches[2])


def test_close_ends_the_workers():
  sampler, _ = make(num_slots=2)
  assert len(sampler.backend.paths.pool.process_ids) == 2
  sampler.close()
  assert sampler.backend.paths.pool.process_ids == []
