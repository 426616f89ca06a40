"""Run directories with a trained policy, without what only training needs."""

import dataclasses
import json
import os
import pathlib
import shutil
import tempfile

from trpo_tf.experiment import checkpoint
from trpo_tf.experiment.trained import TrainedPolicy

__all__ = ['write']


def write(
  policy: TrainedPolicy, run_dir: pathlib.Path, out: pathlib.Path
) -> None:
  """Writes the directory; it is there as a whole or not at all.

  `load_policy` and the program evaluate read it. A training cannot continue
  from it, as it lacks the value network and the states of the slots.

  Args:
    policy: the trained policy.
    run_dir: directory of its run, whose settings are copied, and whose
      evaluation is too if it is that of this checkpoint.
    out: the directory to make, which must not exist.

  Raises:
    OSError: it cannot be written.
  """
  out = out.absolute()
  out.parent.mkdir(parents=True, exist_ok=True)
  assert policy.checkpoint is not None
  state = dict(
    theta=policy.theta,
    normalizer=dataclasses.asdict(policy.normalizer),
    env_steps=policy.env_steps,
  )
  with tempfile.TemporaryDirectory(
    prefix=f'.{out.name}.', dir=out.parent
  ) as folder:
    new = pathlib.Path(folder) / 'run'
    (new / 'checkpoints').mkdir(parents=True)
    checkpoint.write(new / 'checkpoints' / policy.checkpoint.name, state)
    for name in ('run.json', 'flags.txt'):
      if (run_dir / name).exists():
        shutil.copyfile(run_dir / name, new / name)
    evaluated = run_dir / 'evaluation.json'
    if _checkpoint_of(evaluated) == policy.checkpoint.name:
      shutil.copyfile(evaluated, new / evaluated.name)
    os.rename(new, out)


def _checkpoint_of(evaluation: pathlib.Path) -> str | None:
  """Returns the checkpoint that was evaluated; None if there is no result."""
  if not evaluation.exists():
    return None
  try:
    return json.loads(evaluation.read_text())['checkpoint']
  except (ValueError, KeyError, TypeError):
    return None
