"""Training on a GPU: the same bytes twice, and the processor's numbers nearly.

Each run has a process of its own, as a process computes on one device.
"""

import programs
import pytest
import tensorflow as tf

from trpo_tf.experiment import progress

pytestmark = pytest.mark.slow

HOPPER = (
  '--task=Hopper-v5',
  '--batch_steps=400',
  '--num_slots=4',
  '--total_iterations=3',
  '--notensorboard',
)
PONG = (
  '--preset=atari/gae',
  '--task=atari/pong',
  '--batch_steps=64',
  '--num_slots=2',
  '--value_minibatch=32',
  '--total_iterations=2',
  '--notensorboard',
)
needs_gpu = pytest.mark.skipif(
  not tf.config.list_physical_devices('GPU'), reason='there is no GPU here'
)


def _trained(folder, run_dir, given):
  (done,) = programs.run('train', [[*given, f'--run_dir={run_dir}']], folder)
  assert done.code == 0, done.stderr
  return folder / run_dir


@needs_gpu
@pytest.mark.parametrize('given', [HOPPER, PONG], ids=['hopper', 'pong'])
def test_a_run_gives_the_same_bytes_twice(tmp_path, given):
  """And in its first iteration, whose batch is the same, the CPU's numbers."""
  first, again, cpu = (
    _trained(tmp_path, name, [*given, *more])
    for name, more in (
      ('first', ['--device=gpu']),
      ('again', ['--device=gpu']),
      ('cpu', []),
    )
  )
  assert programs.progress(first) == programs.progress(again)
  assert programs.final_state(first) == programs.final_state(again)
  here, there = (
    progress.read_csv(run / 'progress.csv') for run in (first, cpu)
  )
  assert here['return_mean'][0] == there['return_mean'][0]
  for column in ('gradient_norm', 'mean_kl', 'entropy', 'value_loss'):
    assert here[column][0] == pytest.approx(there[column][0], rel=1e-2), column


@pytest.mark.skipif(
  bool(tf.config.list_physical_devices('GPU')), reason='there is a GPU here'
)
def test_there_is_no_gpu(tmp_path):
  (run,) = programs.run(
    'train', [[*HOPPER, '--device=gpu', '--run_dir=a']], tmp_path
  )
  (bench,) = programs.run('bench', [['--parts=gpu']], tmp_path)
  for done, given in ((run, 'train: --device'), (bench, 'bench: --parts')):
    assert done.code == 2 and done.stderr.count('\n') == 1
    assert done.stderr.startswith(f'{given}=gpu: TensorFlow finds no GPU')


def test_shards_compute_on_processors(tmp_path):
  (done,) = programs.run(
    'train',
    [[*HOPPER, '--device=gpu', '--num_shards=2', '--run_dir=a']],
    tmp_path,
  )
  assert done.code == 2
  assert done.stderr.startswith('train: --device=gpu is for a run in one part')
