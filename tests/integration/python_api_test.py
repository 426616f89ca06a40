"""The names of trpo_tf: training, and trained policies, from Python."""

import contextlib
import os
import subprocess
import sys

import gymnasium
import numpy as np
import programs
import pytest
import tiny

import trpo_tf
from trpo_tf import config

pytestmark = pytest.mark.slow

# lists do as well as tuples
_TINY = tiny.SETTINGS | dict(value_hidden_sizes=[], total_iterations=3)
_FLAGS = [*programs.TINY, '--total_iterations=3', '--notensorboard']

_IMPORT = """
import sys
import trpo_tf
heavy = {'tensorflow', 'numpy', 'gymnasium', 'mujoco', 'absl'} & {*sys.modules}
assert not heavy, heavy
assert set(trpo_tf.__all__) <= set(dir(trpo_tf))
try:
  trpo_tf.nothing
except AttributeError as error:
  assert "has no attribute 'nothing'" in str(error)
trpo_tf.native_task('Hopper-v5')
trpo_tf.UserError
assert 'tensorflow' not in sys.modules
trpo_tf.load_policy
assert 'tensorflow' in sys.modules
"""


def test_the_import_is_cheap_and_silent():
  done = subprocess.run(
    [sys.executable, '-c', _IMPORT], capture_output=True, text=True
  )
  assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_all_names_exist():
  for name in trpo_tf.__all__:
    assert getattr(trpo_tf, name).__name__ == name


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Runs of the program: a whole one, and one by preset and by flagfile."""
  folder = tmp_path_factory.mktemp('runs')
  preset = folder / 'preset.flags'
  preset.write_text('--preset=v5/inverted_pendulum\n--seed=4\n')
  file = f'--flagfile={programs.ROOT}/configs/v5/inverted_pendulum.flags'
  short = '--total_iterations=1', '--batch_steps=400', '--notensorboard'
  commands = {
    'whole': _FLAGS,
    'by_file': [file, '--seed=4', *short],
    'by_preset': ['--seed=4', '--preset=v5/inverted_pendulum', *short],
    'by_both': [f'--flagfile={preset}', *short],
    'again': ['--flagfile=by_preset/flags.txt'],
  }
  given = [[*c, '--noprogress', f'--run_dir={n}'] for n, c in commands.items()]
  for done in programs.run('train', given, folder):
    assert (done.code, done.stderr) == (0, '')
  return folder


@pytest.mark.parametrize('name', ['by_preset', 'by_both', 'again'])
def test_a_preset_trains_as_its_flagfile(folder, name):
  run, want = folder / name, folder / 'by_file'
  assert programs.progress(run) == programs.progress(want)
  assert programs.final_state(run) == programs.final_state(want)
  flags = [p.joinpath('flags.txt').read_text() for p in (run, want)]
  assert flags[0].replace(name, 'by_file') == flags[1]


def test_training_gives_the_numbers_of_the_program(
  folder, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  found = list(trpo_tf.train(**_TINY))
  assert [i.record.iteration for i in found] == [1, 2, 3]
  assert not os.listdir(tmp_path)
  theta = programs.final_state(folder / 'whole')['/theta'][2]
  assert found[-1].state.theta.tobytes() == theta
  assert found[0].batch.num_steps == 200
  assert repr(found[0]).startswith('Iteration(iteration=1, env_steps=200, ')
  settings = config.from_settings(
    {n: tuple(v) if isinstance(v, list) else v for n, v in _TINY.items()}
  )
  *_, last = trpo_tf.train(settings, total_iterations=2)
  assert last.state.theta.tobytes() == found[1].state.theta.tobytes()


def test_a_run_directory_continues_from_python(folder, tmp_path):
  run = tmp_path / 'run'
  with contextlib.closing(trpo_tf.train(**_TINY, run_dir=run)) as iterations:
    assert not run.exists()
    next(iterations)
    other = trpo_tf.train(**_TINY, run_dir=run)
    with pytest.raises(trpo_tf.UserError, match='of this process'):
      next(other)
  assert programs.final_state(run)['/iteration'] == 1

  def interrupted():
    for iteration in trpo_tf.train(**_TINY, run_dir=run):
      assert iteration.state.iteration == 2
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    interrupted()
  assert programs.final_state(run)['/iteration'] == 2
  list(trpo_tf.train(**_TINY, run_dir=str(run)))
  assert programs.progress(run) == programs.progress(folder / 'whole')
  assert programs.final_state(run) == programs.final_state(folder / 'whole')
  policy = trpo_tf.load_policy(run)
  assert np.shape(policy.act(np.zeros(4))) == (1,)
  checkpoint = run / 'checkpoints/iteration_00000003.npz'
  assert repr(policy) == (
    f"TrainedPolicy(task='InvertedPendulum-v5', env_steps={policy.env_steps}, "
    f"checkpoint='{checkpoint}')"
  )
  with pytest.raises(trpo_tf.UserError, match='holds a run with other setting'):
    next(trpo_tf.train(**_TINY, run_dir=run, gamma=0.5))


@pytest.mark.parametrize(
  ('preset', 'overrides', 'says'),
  [
    ('', dict(max_kll=1), "Unknown command line flag 'max_kll'. Did you mean"),
    ('', dict(gamma='abc'), 'flag --gamma=abc: could not convert'),
    ('', dict(gamma=2), '--gamma=2.0 is outside [0, 1]'),
    ('', dict(activation='elu'), 'should be one of <tanh|softplus|relu>'),
    ('', dict(batch_steps=2001), 'is not a multiple of'),
    ('', dict(batch_steps=1.5), 'flag --batch_steps=1.5'),
    ('', dict(task=gymnasium.Env()), '--task takes no Env: register it with'),
    (['v5/hopper', 'v5/vin'], {}, '--preset=v5/vin: no such preset'),
    ('', dict(seed=None), '--seed=None: leave it out'),
    ('', dict(task='Hopper-v55'), 'did you mean Hopper-v5?'),
    ('', dict(flagfile='missing.flags'), 'No such file'),
    ('v5/hoper', {}, '--preset=v5/hoper: no such preset; did you mean v5/ho'),
  ],
)
def test_mistakes_are_those_of_the_flags(preset, overrides, says):
  with pytest.raises(trpo_tf.UserError) as error:
    trpo_tf.train(preset, **overrides)
  assert says in str(error.value)
  assert '\n' not in str(error.value)


def test_threads_and_device_are_set_before_tensorflow_runs():
  list(trpo_tf.train(**_TINY | dict(total_iterations=1)))
  with pytest.raises(
    trpo_tf.UserError, match='--tf_threads=3: TensorFlow runs'
  ):
    trpo_tf.train(**_TINY, tf_threads=3)
  with pytest.raises(trpo_tf.UserError, match='--device=gpu: TensorFlow runs'):
    trpo_tf.train(**_TINY, tf_threads=3, device='gpu')
