"""Runs of the train binary, from its flags to the files that it leaves."""

import json

import numpy as np
import programs
import pytest
from tensorboard.backend.event_processing.event_accumulator import (
  EventAccumulator,
)

from trpo_tf import config
from trpo_tf.experiment import checkpoint, progress, sinks

pytestmark = pytest.mark.slow
_STEPS = '--total_env_steps=600'
_VALUE_NETWORK = (
  '--value_hidden_sizes=8',
  '--value_epochs=1',
)
_VARIANTS = {
  'plain': (),
  'none': ('--baseline=none', '--whole_episodes'),
  'linear': ('--baseline=linear', '--whole_episodes'),
  'time': ('--baseline=time', '--whole_episodes'),
  'whole_value': ('--whole_episodes', *_VALUE_NETWORK),
  'fisher_fraction': ('--fisher_fraction=0.1',),
  'linear_policy': ('--hidden_sizes=',),
  'softplus': ('--activation=softplus', '--hidden_sizes=8,4'),
  'control': ('--action_range=control', '--noclip_actions'),
  'drop': ('--on_divergence=drop', '--notensorboard'),
  'unnormalized': ('--nonormalize_observations', '--nostandardize_advantages'),
  'box_in_python': ('--task=Pendulum-v1',),
  'discrete': ('--task=CartPole-v1', *_VALUE_NETWORK),
}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """One run, its repetition, and the variants; results by name."""
  folder = tmp_path_factory.mktemp('runs')
  commands = {
    'run': [
      *programs.TINY,
      *_VALUE_NETWORK,
      '--seed=3',
      _STEPS,
      '--checkpoint_seconds=0',
      '--keep_checkpoints=2',
    ],
    'repeated': ['--flagfile=run/flags.txt', '--noprogress'],
    'other_seed': ['--flagfile=run/flags.txt', '--noprogress', '--seed=4'],
  }
  commands |= {
    name: [*programs.TINY, '--total_env_steps=400', *flags]
    for name, flags in _VARIANTS.items()
  }
  given = [[*flags, f'--run_dir={name}'] for name, flags in commands.items()]
  results = programs.run('train', given, folder)
  return folder, dict(zip(commands, results, strict=True))


def test_it_ends_well(runs):
  _, results = runs
  assert results['run'].code == 0
  assert results['run'].stderr == ''
  assert results['run'].stdout == (
    'evaluate with: python -m trpo_tf.bin.evaluate --run_dir=run\n'
  )


def test_run_directory(runs):
  run = runs[0] / 'run'
  assert sorted(p.name for p in run.iterdir()) == [
    'checkpoints',
    'flags.txt',
    'progress.csv',
    'run.json',
    'run.lock',
    'tensorboard',
  ]
  lines = (run / 'flags.txt').read_text().splitlines()
  flags = [line for line in lines if not line.startswith('#')]
  names = config.settings(config.ExperimentConfig())
  assert [line.partition('=')[0] for line in flags] == [f'--{n}' for n in names]
  assert {'--seed=3', '--task=InvertedPendulum-v5'} <= set(flags)
  record = json.loads((run / 'run.json').read_text())
  assert {'command', 'versions', 'git', 'host', 'settings'} <= set(record)
  saved = sorted(p.name for p in (run / 'checkpoints').iterdir())
  assert saved == ['iteration_00000002.npz', 'iteration_00000003.npz']


def test_progress(runs):
  run = runs[0] / 'run'
  header = (run / 'progress.csv').read_text().partition('\n')[0]
  assert header == ','.join(sinks.COLUMNS)
  rows = progress.read_csv(run / 'progress.csv')
  np.testing.assert_array_equal(rows['iteration'], [1, 2, 3])
  np.testing.assert_array_equal(rows['env_steps'], [200, 400, 600])
  assert (np.diff(rows['episodes']) > 0).all()
  accepted = rows['step_status'] == 'accepted'
  assert accepted.any()
  assert (rows['mean_kl'] <= 0.01).all()
  assert (rows['mean_kl'][accepted] > 0).all()
  assert (rows['return_min'] <= rows['return_mean']).all()
  assert (rows['return_mean'] <= rows['return_max']).all()
  for name in ('diverged', 'dropped_steps', 'clipped_action_fraction'):
    assert (rows[name] == 0).all(), name
  assert (rows['sampler_output_error'] < 1e-5).all()
  assert (np.diff(rows['elapsed_seconds']) > 0).all()
  seconds = rows['sample_seconds'] + rows['update_seconds']
  np.testing.assert_allclose(rows['env_steps_per_second'] * seconds, 200)


def test_tensorboard_shows_the_same_numbers(runs):
  run = runs[0] / 'run'
  events = EventAccumulator(str(run / 'tensorboard')).Reload()
  rows = progress.read_csv(run / 'progress.csv')
  tags = {tag.split('/')[1]: tag for tag in events.Tags()['tensors']}
  assert set(sinks.COLUMNS) - {'step_status'} <= set(tags)
  for name in set(sinks.COLUMNS) - {'step_status'}:
    points = events.Tensors(tags[name])
    assert [p.step for p in points] == [200, 400, 600]
    values = [p.tensor_proto.float_val[0] for p in points]
    np.testing.assert_array_equal(values, rows[name].astype(np.float32), name)
  for name in ('returns', 'actions', 'advantages'):
    assert len(events.Tensors(tags[name])) == 3


def test_flags_txt_repeats_the_run(runs):
  folder, results = runs
  assert results['repeated'].code == 0
  run, repeated = folder / 'run', folder / 'repeated'
  assert programs.progress(repeated) == programs.progress(run)
  assert programs.final_state(repeated) == programs.final_state(run)
  assert programs.progress(folder / 'other_seed') != programs.progress(run)


@pytest.mark.parametrize('name', _VARIANTS)
def test_variants_run(runs, name):
  folder, results = runs
  assert (results[name].code, results[name].stderr) == (0, '')
  rows = programs.progress(folder / name)
  assert [row[0] for row in rows[:2]] == ['1', '2']
  state = checkpoint.load_newest(folder / name / 'checkpoints').state
  assert np.isfinite(state['theta']).all()
  assert state['env_steps'] >= 400


def test_variants_differ(runs):
  """Each flag does something, but for those that only act on divergence."""
  folder, _ = runs
  found = {
    name: programs.final_state(folder / name)['/theta'] for name in _VARIANTS
  }
  assert found.pop('drop') == found['plain']
  assert len(set(found.values())) == len(found)
  assert (folder / 'plain' / 'tensorboard').exists()
  assert not (folder / 'drop' / 'tensorboard').exists()
