"""An exported policy acts as the run's own, where trpo_tf is not imported."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pages
import programs
import pytest
import tiny

import trpo_tf
from trpo_tf.bin import flags
from trpo_tf.errors import UserError
from trpo_tf.experiment import backend, export, small_run
from trpo_tf.experiment.evaluation import evaluate
from trpo_tf.experiment.trained import TrainedPolicy

pytestmark = pytest.mark.slow

# actions of order 1 and more, so that some are clipped
_WIDE = dict(hidden_sizes=8, output_scale=3.0, num_slots=1)
_SETTINGS = {
  'native': dict(task='Reacher-v5', action_range='control', **_WIDE),
  'unclipped': dict(task='Reacher-v5', clip_actions=False, **_WIDE),
  'softplus': dict(
    task='MountainCarContinuous-v0', activation='softplus', **_WIDE
  ),
  'plain': dict(
    task='CartPole-v1',
    activation='relu',
    normalize_observations=False,
    **_WIDE,
  ),
  'dict': dict(task='lock:Bolt-v0', **_WIDE),
  'atari': dict(
    task='atari/pong',
    conv_filters='4,6',
    hidden_sizes=8,
    num_slots=4,
    batch_steps=64,
    time_limit=40,
  ),
  'picture': dict(
    task='toy_envs:Picture-v0',
    env_kwargs='{"shape": [20, 24, 3], "continuous": true}',
    conv_filters='4,6',
    **_WIDE,
  ),
  'grey': dict(
    task='toy_envs:Picture-v0',
    env_kwargs='{"shape": [20, 24]}',
    conv_filters='4',
    **_WIDE,
  ),
}
_LOCK = """
import gymnasium
import numpy as np
from gymnasium import spaces


class Lock(gymnasium.Env):
  observation_space = spaces.Dict(
    b=spaces.Discrete(3), a=spaces.Box(-1, 1, (2, 1))
  )
  action_space = spaces.MultiDiscrete([2, 3], start=[0, 5])

  def _observation(self):
    a = self.np_random.uniform(-1, 1, (2, 1)).astype(np.float32)
    return dict(a=a, b=int(self.np_random.integers(3)))

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self._observation(), {}

  def step(self, action):
    assert self.action_space.contains(action)
    return self._observation(), float(action[1]), False, False, {}


gymnasium.register('Bolt-v0', Lock, max_episode_steps=9)
"""
# of what is exported in each folder, by output
_CHILD = """
import pathlib, sys
import numpy as np
import onnxruntime
import tensorflow as tf

for folder in map(pathlib.Path, sys.argv[1:]):
  observations = np.load(folder / 'observations.npy')
  model = tf.saved_model.load(str(folder / 'export/saved_model'))
  found = {}
  for signature in model.signatures.values():
    outputs = signature(observation=tf.constant(observations))
    found |= {f'saved_model {k}': v.numpy() for k, v in outputs.items()}
  session = onnxruntime.InferenceSession(folder / 'export/policy.onnx')
  outputs = session.run(None, {'observation': observations})
  for output, value in zip(session.get_outputs(), outputs):
    found['onnx ' + output.name] = value
  np.savez(folder / 'found.npz', **found)
assert 'trpo_tf' not in sys.modules
"""


def _policy(name):
  """A policy of random parameters that has seen random observations."""
  made = backend.resolve(
    flags.parse([f'--{k}={v}' for k, v in _SETTINGS[name].items()])
  )
  policy, normalizer = made.policy(), made.normalizer()
  rng = np.random.default_rng(0)
  seen = rng.normal(0.5, 2.0, (50, normalizer.mean.size))
  return TrainedPolicy(
    made,
    policy,
    policy.initial_parameters(rng),
    normalizer.update(seen),
    env_steps=0,
    checkpoint=pathlib.Path('none.npz'),
  )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with exports and what they gave, by name."""
  folder = tmp_path_factory.mktemp('export')
  (folder / 'lock.py').write_text(_LOCK)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    patch.syspath_prepend(folder)
    for name in _SETTINGS:
      policy = _policy(name)
      export.write(policy, pathlib.Path(name, 'export'), onnx=True)
      np.save(f'{name}/observations', _sampled(policy)[0])
    _clean(_CHILD, *_SETTINGS, cwd=folder)
    yield folder


def _clean(script, *arguments, cwd):
  """Runs Python without trpo_tf on its path."""
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  done = subprocess.run(
    [sys.executable, '-c', script, *arguments],
    env=environment | {'TF_CPP_MIN_LOG_LEVEL': '3'},
    cwd=cwd,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def _sampled(policy):
  """Observations as the policy takes them, and what the sampler computed."""
  _, batch = evaluate(
    policy.backend,
    policy.theta,
    policy.normalizer,
    1,
    deterministic=True,
    keeps_observations=True,
  )
  steps = slice(int(batch.lengths[0]))
  observations = batch.observations[0, steps]
  if policy.task.startswith('atari/'):
    observations = np.stack([batch.stacks(rows) for rows in observations])
    observations = np.moveaxis(observations, -1, 1)
  elif policy.task.startswith('toy_envs:'):
    observations = batch.stacks(observations)
    observations = observations.reshape(
      -1, *policy.backend.spaces.images.own_shape
    )
  return observations, batch.outputs[0, steps]


@pytest.mark.parametrize('kind', ['saved_model', 'onnx'])
@pytest.mark.parametrize('name', _SETTINGS)
def test_equals_the_run_and_its_sampler(folder, name, kind):
  policy = _policy(name)
  observations, outputs = _sampled(policy)
  np.testing.assert_array_equal(
    np.load(folder / name / 'observations.npy'), observations
  )
  found = np.load(folder / name / 'found.npz')
  action = found[f'{kind} action']
  if name == 'dict':  # the run's own takes what is not flattened
    policy.backend.spaces.__dict__['observation_space'] = _vector(observations)
  expected = policy.act(observations)
  assert (action.dtype, action.shape) == (expected.dtype, expected.shape)
  discrete = name in ('plain', 'dict', 'atari', 'grey')
  np.testing.assert_allclose(action, expected, 0 if discrete else 1e-5, 1e-5)
  name = 'logits' if discrete else 'mean'
  np.testing.assert_allclose(found[f'{kind} {name}'], outputs, 1e-5, 1e-5)
  if not discrete:
    deviation = policy.distribution(observations).stddev()
    np.testing.assert_allclose(
      found[f'{kind} standard_deviation'], deviation, 1e-6
    )


def _vector(observations):
  import gymnasium

  shape = observations.shape[1:]
  return gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)


def test_cases_differ(folder):
  """Clipped and unclipped actions occur, and so does each choice."""
  actions = {
    n: np.load(folder / n / 'found.npz')['onnx action'] for n in _SETTINGS
  }
  assert (np.abs(actions['native']) <= 1).all()
  for name, some in (('native', True), ('unclipped', False)):
    assert (np.abs(actions[name]) == 1).any() == some
  assert np.abs(actions['unclipped']).max() > 1
  assert len(np.unique(actions['dict'][:, 1])) > 1
  assert actions['dict'][:, 1].min() >= 5


@pytest.mark.parametrize('name', _SETTINGS)
def test_description(folder, name):
  export_dir = folder / name / 'export'
  assert sorted(os.listdir(export_dir)) == [
    'export.json',
    'policy.onnx',
    'saved_model',
  ]
  text = json.loads((export_dir / 'export.json').read_text())
  observations = np.load(folder / name / 'observations.npy')
  action = np.load(folder / name / 'found.npz')['saved_model action']
  assert text['task'] == _SETTINGS[name]['task']
  assert text['observation'] == dict(
    shape=list(observations.shape[1:]), dtype=str(observations.dtype)
  )
  assert text['action'] == dict(
    shape=list(action.shape[1:]), dtype=str(action.dtype)
  )
  model = onnx.load(export_dir / 'policy.onnx')
  assert [x.name for x in model.graph.input] == ['observation']
  assert [x for x in os.listdir(folder / name) if x.startswith('.')] == []


def test_program(tmp_path):
  (trained,) = programs.run(
    'train', [[*programs.TINY, '--total_iterations=1', '--run_dir=r']], tmp_path
  )
  assert trained.code == 0, trained.stderr
  (tmp_path / 'taken').mkdir()
  (tmp_path / 'file').touch()
  commands = {
    'taken exists already': ['--run_dir=r', '--out=taken'],
    'file exists already': ['--run_dir=r', '--out=file'],
    '--out is missing': ['--run_dir=r'],
    'none is not a directory': ['--run_dir=none', '--out=x'],
    'are two exports': ['--run_dir=r', '--out=x', '--onnx', '--as_run'],
    '': ['--run_dir=r', '--out=new/deep'],
  }
  found = programs.run('export', list(commands.values()), tmp_path)
  for text, result in zip(commands, found, strict=True):
    assert result.code == (2 if text else 0), result
    assert text in result.stderr and result.stderr.count('\n') == bool(text)
  said = 'InvertedPendulum-v5 after 200 env steps: new/deep\n'
  assert found[-1].stdout == said
  names = ['export.json', 'saved_model']
  assert sorted(os.listdir(tmp_path / 'new/deep')) == names
  assert os.listdir(tmp_path / 'new') == ['deep']
  assert not (tmp_path / 'x').exists()
  assert not os.listdir(tmp_path / 'taken')


def test_a_small_run_directory_has_the_policy_and_cannot_train(tmp_path):
  tiny.train(tmp_path / 'run')
  whole = trpo_tf.load_policy(tmp_path / 'run')
  small_run.write(whole, tmp_path / 'run', tmp_path / 'small')
  assert os.listdir(tmp_path / 'small' / 'checkpoints') == [
    whole.checkpoint.name
  ]
  small = trpo_tf.load_policy(tmp_path / 'small')
  assert small.env_steps == whole.env_steps == 1600
  assert small.theta.tobytes() == whole.theta.tobytes()
  for observation in np.random.default_rng(0).normal(size=(5, 4)):
    assert small.act(observation) == whole.act(observation)
  with pytest.raises(UserError, match='as an exported policy does'):
    tiny.train(tmp_path / 'small', total_env_steps=2000)
  begun = tiny.train(tmp_path / 'new', 400, init_from=str(tmp_path / 'small'))
  assert begun[-1].state.env_steps == 400
  for checkpoint, kept in ((whole.checkpoint.name, True), ('other.npz', False)):
    result = tmp_path / 'run/evaluation.json'
    result.write_text(json.dumps(dict(checkpoint=checkpoint)))
    small_run.write(whole, tmp_path / 'run', tmp_path / str(kept))
    assert (tmp_path / str(kept) / result.name).exists() == kept


@pytest.fixture
def exported(folder, tmp_path):
  """A folder with the export that docs/export.md names, of Reacher-v5."""
  shutil.copytree(folder / 'native/export', tmp_path / 'exports/reacher')
  return tmp_path


def test_the_pages_python_runs(folder, exported):
  said = _clean(
    '\n'.join(pages.blocks('docs/export.md', 'python')), cwd=exported
  )
  assert said.count('(1, 2)') == 2


def test_the_pages_c_api_runs(folder, exported):
  """Against the headers and libraries of the TensorFlow that is installed."""
  import tensorflow as tf

  (source,) = [
    x for x in pages.blocks('docs/export.md', 'cpp') if 'tensorflow' in x
  ]
  (exported / 'act.cc').write_text(source)
  home = pathlib.Path(tf.__file__).parent
  libraries = 'libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'
  command = ['c++', '-std=c++17', 'act.cc', '-o', 'act', f'-I{home}/include']
  command += [f'-L{home}', f'-Wl,-rpath,{home}']
  command += [f'-l:{name}' for name in libraries]
  subprocess.run(command, cwd=exported, check=True)
  done = subprocess.run(['./act'], cwd=exported, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout
  policy = _policy('native')
  expected = policy.act(np.zeros(10))
  found = np.array(done.stdout.split(), float)
  np.testing.assert_allclose(found, expected, 1e-5, 1e-5)
