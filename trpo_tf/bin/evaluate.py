"""Evaluates a checkpoint of a run, by default the newest.

  python -m trpo_tf.bin.evaluate --run_dir=DIR --episodes=20 [--video=FILE]

Loads the policy, its normaliser and the settings, runs whole episodes with the
mean of the policy and with sampled actions, prints a table and writes
DIR/evaluation.json, or evaluation_best.json with --checkpoint=best, and so on.
"""

import pathlib

from absl import flags as absl_flags
from rich.console import Console
from rich.table import Table

from trpo_tf import extras
from trpo_tf.bin import flags
from trpo_tf.errors import UserError
from trpo_tf.experiment import result_files, saved_runs

_RUN_DIR = absl_flags.DEFINE_string('run_dir', '', 'directory of the run')
_EPISODES = absl_flags.DEFINE_integer(
  'episodes', 20, 'episodes of each kind', lower_bound=1, upper_bound=10000
)
_VIDEO = absl_flags.DEFINE_string(
  'video', '', 'write a video (.mp4, .gif) of one deterministic episode'
)
_CHECKPOINT = absl_flags.DEFINE_string(
  'checkpoint',
  'newest',
  'what to evaluate: newest; best, by the evaluations in training; or the name '
  'of a file of checkpoints/',
)
_SEED = absl_flags.DEFINE_integer(
  'seed',
  None,
  "seed of the episodes; without it, they follow from the run's seed",
  lower_bound=0,
  upper_bound=2**31 - 1,
)
_TRUST = absl_flags.DEFINE_bool('trust_task', False, flags.TRUST_HELP)


def _table(task: str, env_steps: int, result: dict) -> Table:
  table = Table(
    title=f'{task} after {env_steps:,} env steps: {_EPISODES.value} episodes '
    'of each kind'
  )
  table.add_column('actions', no_wrap=True)
  for name in ('return', 'sd', 'IQM', '95 % interval', 'length'):
    wraps = name.startswith('95')  # where a wide table is broken
    table.add_column(name, justify='right', no_wrap=not wraps)
  for kind, summary in result.items():
    returns = summary['return']
    numbers = (returns['mean'], returns['std'], returns['iqm'])
    interval = returns['ci95']
    table.add_row(
      kind,
      *('-' if x is None else f'{x:.1f}' for x in numbers),
      '{:.1f} to {:.1f}'.format(*interval) if interval else '-',
      f'{summary["length"]["mean"] or 0:.0f}',
    )
  return table


def _terms_table(result: dict) -> Table:
  """Tabulates the mean over episodes of the sum of each reward term."""
  table = Table(title="mean sums of the reward's terms")
  table.add_column('term', overflow='fold')
  for kind in result:
    table.add_column(kind, justify='right', no_wrap=True)
  for name in next(iter(result.values()))['terms']:
    means = (summary['terms'][name] for summary in result.values())
    table.add_row(name, *('-' if x is None else f'{x:.1f}' for x in means))
  return table


def _file_name() -> str:
  """Names the file of the results, so that no checkpoint replaces another."""
  name = pathlib.Path(_CHECKPOINT.value).stem
  return f'evaluation_{name}.json' if name != 'newest' else 'evaluation.json'


def main(_) -> None:
  """Evaluates the run and writes the results."""
  # these errors are reported before the seconds that TensorFlow's import takes
  if not _RUN_DIR.value:
    raise UserError('--run_dir is missing: name the run to evaluate')
  if _VIDEO.value and not _VIDEO.value.endswith(('.mp4', '.gif')):
    raise UserError(f'--video={_VIDEO.value}: end it in .mp4 or .gif')
  if _VIDEO.value.endswith('.mp4'):
    extras.require('imageio_ffmpeg', 'video', f'--video={_VIDEO.value}')
  path = saved_runs.expanded(_RUN_DIR.value)
  saved_runs.read_trusted(path, _TRUST.value)
  saved_runs.load_checkpoint(path, name=_CHECKPOINT.value)
  flags.import_tensorflow()
  from trpo_tf.experiment import atari_video, backend, gym_video, trained, video
  from trpo_tf.experiment.evaluation import evaluate, evaluation_config

  policy = trained.load_policy(path, _TRUST.value, checkpoint=_CHECKPOINT.value)
  config, task = policy.config, policy.backend
  if _SEED.value is not None:
    config = config.reseeded(_SEED.value)
    task = task.configured(config)
  if _VIDEO.value and isinstance(task, backend.Gym):
    gym_video.require_images(config.task)
  if _VIDEO.value:
    result_files.require_writable(_VIDEO.value)
  result = {}
  for kind in ('sampled', 'deterministic'):
    evaluation, batch = evaluate(
      task,
      policy.theta,
      policy.normalizer,
      _EPISODES.value,
      deterministic=kind == 'deterministic',
    )
    result[kind] = evaluation.summary()
  console = Console(markup=False)
  assert policy.checkpoint is not None
  for damaged in policy.damaged:
    console.print(
      f'{damaged}; {policy.checkpoint.name} is evaluated',
      style='yellow',
    )
  console.print(_table(policy.task, policy.env_steps, result))
  if result['sampled']['terms']:
    console.print(_terms_table(result))
  for kind, summary in result.items():
    if summary['diverged']:
      console.print(
        f'{summary["diverged"]} {kind} episodes diverged and are left out',
        style='yellow',
      )
  record = dict(
    result,
    task=policy.task,
    env_steps=policy.env_steps,
    checkpoint=policy.checkpoint.name,
    seed=policy.config.run.seed,
    evaluation_seed=_SEED.value,
  )
  result_files.write_json(path / _file_name(), record)
  if not _VIDEO.value:
    return
  sampled_under = evaluation_config(config, _EPISODES.value)
  if isinstance(task, backend.Atari):
    screens = atari_video.episode_screens(task.game, sampled_under, batch, 0)
    atari_video.write_video(_VIDEO.value, task.game, screens)
  elif isinstance(task, backend.Native):
    poses = video.episode_poses(task.task, sampled_under, batch, 0)
    video.write_video(_VIDEO.value, task.task, poses)
  else:
    spaces = task.spaces
    gym_video.write_video(_VIDEO.value, spaces, sampled_under, batch, 0)
  console.print(f'video: {_VIDEO.value}')


if __name__ == '__main__':
  flags.run(main)
