"""The evaluate binary against plain Gymnasium, and its files."""

import json
import shutil

import gymnasium
import imageio.v3 as iio
import networks
import numpy as np
import programs
import pytest

from trpo_tf import config as config_lib
from trpo_tf.experiment import backend, checkpoint, saved_runs
from trpo_tf.experiment.evaluation import evaluate, evaluation_config
from trpo_tf.experiment.video import episode_poses
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.draws import ResetTable
from trpo_tf.seeding import Stream, derived_seed
from trpo_tf.tasks.environment import describe
from trpo_tf.tasks.registry import NATIVE_TASKS
from trpo_tf.tasks.task import compile_task

pytestmark = pytest.mark.slow
_EPISODES = 5
_TASKS = {
  'pendulum': 'InvertedPendulum-v5',
  'reacher': 'Reacher-v5',
  'cartpole': 'CartPole-v1',
}


@pytest.fixture(scope='module')
def evaluations(tmp_path_factory):
  """Trains and evaluates; returns the folder and results by name."""
  folder = tmp_path_factory.mktemp('evaluate')
  trained = programs.run(
    'train',
    [
      [
        *programs.TINY,
        f'--task={task}',
        '--total_env_steps=1000',
        '--checkpoint_seconds=0',
        '--seed=5',
        f'--run_dir={name}',
      ]
      for name, task in _TASKS.items()
    ],
    folder,
  )
  assert [(r.code, r.stderr) for r in trained] == [(0, '')] * len(_TASKS)
  shutil.copytree(folder / 'pendulum', folder / 'again')
  shutil.copytree(folder / 'pendulum', folder / 'damaged')
  newest = max((folder / 'damaged' / 'checkpoints').iterdir())
  newest.write_bytes(newest.read_bytes()[:-1])
  episodes = f'--episodes={_EPISODES}'
  commands = {
    'pendulum': [],
    'again': [],
    'damaged': [],
    'reacher': ['--video=videos/reacher.mp4'],
    'cartpole': [],
    'video': ['--run_dir=cartpole', '--video=cartpole.gif'],
    'one episode': ['--run_dir=again', '--episodes=1'],
  }
  results = programs.run(
    'evaluate',
    [
      [f'--run_dir={name}', episodes, *flags]
      for name, flags in commands.items()
    ],
    folder,
  )
  return folder, dict(zip(commands, results, strict=True))


def _evaluation(folder, name):
  return json.loads((folder / name / 'evaluation.json').read_text())


@pytest.mark.parametrize('name', _TASKS)
def test_evaluation_json(evaluations, name):
  folder, results = evaluations
  if name != 'reacher':  # where a video needs a driver
    assert (results[name].code, results[name].stderr) == (0, '')
  found = _evaluation(folder, name)
  assert found['task'] == _TASKS[name]
  assert (found['env_steps'], found['seed']) == (1000, 5)
  assert found['checkpoint'] == 'iteration_00000005.npz'
  for kind in ('deterministic', 'sampled'):
    assert found[kind]['diverged'] == 0
    for numbers in (found[kind]['return'], found[kind]['length']):
      assert set(numbers) == {'mean', 'std', 'iqm', 'ci95', 'values'}
      values = np.array(numbers['values'])
      assert len(values) == _EPISODES
      assert numbers['mean'] == pytest.approx(values.mean())
      assert numbers['std'] == pytest.approx(values.std(ddof=1))
      assert values.min() <= numbers['iqm'] <= values.max()
      low, high = numbers['ci95']
      assert values.min() <= low <= numbers['mean'] <= high <= values.max()
    row = results[name].stdout
    assert f'{found[kind]["return"]["mean"]:.1f}' in row
  assert found['deterministic']['return'] != found['sampled']['return']


def test_same_run_same_evaluation(evaluations):
  folder, results = evaluations
  assert results['again'].stdout == results['pendulum'].stdout
  # it was then evaluated with one episode: the first of the five
  one, all_ = _evaluation(folder, 'again'), _evaluation(folder, 'pendulum')
  for kind in ('deterministic', 'sampled'):
    assert one[kind]['return']['values'] == all_[kind]['return']['values'][:1]
    assert one[kind]['return']['std'] is None
    assert one[kind]['return']['ci95'] is None


def test_damaged_checkpoint(evaluations):
  folder, results = evaluations
  assert results['damaged'].code == 0
  # the table's width may break the line
  text = ' '.join(results['damaged'].stdout.split())
  assert 'iteration_00000005.npz cannot be used (its checksum is wrong)' in text
  found = _evaluation(folder, 'damaged')
  assert found['checkpoint'] == 'iteration_00000004.npz'
  assert found['env_steps'] == 800


def _loaded(folder, name):
  """Settings of the evaluation, theta, normaliser, by their files."""
  config = saved_runs.read_config(folder / name)
  state = checkpoint.load_newest(folder / name / 'checkpoints').state
  normalizer = Normalizer(**state['normalizer'])
  return evaluation_config(config, _EPISODES), state['theta'], normalizer


def _place(env, config, episode):
  """Puts an environment into the state that an episode begins in."""
  task = backend.resolve(config)
  if isinstance(task, backend.Gym):
    seed = derived_seed(config.run.seed, Stream.ENVIRONMENT, episode, 0)
    return env.reset(seed=seed)[0]
  compiled, first = task.task, np.zeros(_EPISODES, np.int64)
  row = ResetTable(compiled, config.run.seed)(first, 1)[episode, 0]
  env.reset()
  env.unwrapped.set_state(*np.split(row, [compiled.model.nq]))
  if config.task.task == 'Reacher-v5':
    env.unwrapped.goal = row[2:4]
  return env.unwrapped._get_obs()


@pytest.mark.parametrize('name', _TASKS)
def test_returns_are_those_of_plain_gymnasium(evaluations, name):
  """A float64 network steps gymnasium.make(id) from the same states.

  The networks differ by float32's rounding of the actions, a relative 1e-6,
  which these smooth and short episodes do not amplify a hundredfold; returns
  of the poles are numbers of steps.
  """
  folder, _ = evaluations
  config, theta, normalizer = _loaded(folder, name)
  env = gymnasium.make(config.task.task)
  size = describe(config.task.task)
  sizes = size.observation_size, 8, size.output_size
  found = _evaluation(folder, name)['deterministic']
  for episode in range(3):
    observation, ended = _place(env, config, episode), False
    total = steps = 0
    while not ended:
      x = networks.normalized(normalizer, observation[None])
      action = networks.outputs(theta, sizes, x)[0][0]
      action = (
        action.argmax()
        if size.factors
        else np.clip(action, size.low, size.high)
      )
      observation, reward, terminated, truncated, _ = env.step(action)
      ended = terminated or truncated
      total, steps = total + reward, steps + 1
    assert found['length']['values'][episode] == steps
    assert found['return']['values'][episode] == pytest.approx(total, rel=1e-4)


def test_a_video_shows_the_first_episode(tmp_path, evaluations):
  """Its poses are those of the episode that was recorded, bit for bit."""
  folder, _ = evaluations
  config, theta, normalizer = _loaded(folder, 'pendulum')
  found, batch = evaluate(
    backend.resolve(config), theta, normalizer, 2, deterministic=True
  )
  compiled = compile_task(NATIVE_TASKS['InvertedPendulum-v5'])
  config = evaluation_config(config, 2)
  # observed are position and velocity; a frame is a step of 0.04 s
  poses = episode_poses(compiled, config, batch, 1)
  assert len(poses) == found.lengths[1]
  observed = batch.observations[1, : len(poses), : compiled.model.nq]
  np.testing.assert_array_equal(poses.astype(np.float32), observed)


_UNCLAMPED = """
<mujoco>
  <option timestep="0.01"><flag clampctrl="disable"/></option>
  <worldbody>
    <body>
      <joint name="slide" type="slide" axis="1 0 0" damping="1"/>
      <geom size=".1" mass="1"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="slide" ctrlrange="-1 1" ctrllimited="true"/>
  </actuator>
</mujoco>
"""


def test_a_video_sends_the_clipped_controls(tmp_path):
  """The model does not clamp them itself."""
  model = tmp_path / 'slide.xml'
  model.write_text(_UNCLAMPED)
  (tmp_path / 'slide.py').write_text(
    'from trpo_tf.tasks.language import concatenate\n'
    'from trpo_tf.tasks.task import Definition, Task, uniform_reset\n\n'
    'def define(sim):\n'
    '  return Definition(concatenate(sim.qpos, sim.qvel), sim.qpos[0])\n\n'
    f"SLIDE = Task('slide', {str(model)!r}, 1, 60, define, "
    'uniform_reset(0.1, 0.1))\n'
  )
  settings = dict(task=f'{tmp_path}/slide.py:SLIDE', initial_log_std=1.5)
  config = config_lib.from_settings(settings)
  made = backend.resolve(config)
  theta = made.policy().initial_parameters(np.random.default_rng(0))
  normalizer = made.normalizer()
  found, batch = evaluate(made, theta, normalizer, 1, deterministic=False)
  assert (np.abs(batch.actions) > 1).any()
  poses = episode_poses(made.task, evaluation_config(config, 1), batch, 0)
  steps = found.lengths[0]
  every = -(-steps // len(poses))
  observed = batch.observations[0, :steps:every, :1]
  np.testing.assert_array_equal(poses.astype(np.float32), observed)


def test_video_file(evaluations):
  folder, results = evaluations
  result, path = results['reacher'], folder / 'videos' / 'reacher.mp4'
  if 'cannot render here' in result.stderr:
    assert result.code == 2 and result.stderr.count('\n') == 1
    assert _evaluation(folder, 'reacher')  # written all the same
    pytest.skip(result.stderr)
  assert (result.code, result.stderr) == (0, '')
  assert f'video: {path.relative_to(folder)}' in result.stdout
  frames = iio.imread(path)
  assert frames.shape == (25, 384, 512, 3)  # 50 steps of 0.02 s, at 25 / s
  assert iio.immeta(path)['fps'] == 25
  brightness = frames.reshape(25, -1).astype(float)
  assert (brightness.std(1) > 5).all()  # something is to be seen
  assert np.abs(np.diff(brightness, axis=0)).mean(1).max() > 0.1  # and moves


def test_video_of_an_environment_of_gymnasium(evaluations):
  """It repeats the first episode of those that were sampled."""
  folder, results = evaluations
  result = results['video']
  assert (result.code, result.stderr) == (0, '')
  frames = iio.imread(folder / 'cartpole.gif')
  lengths = _evaluation(folder, 'cartpole')['deterministic']['length']
  assert 1 < len(frames) <= lengths['values'][0] + 1
