"""Fingerprints of short runs, for changes that must not change a number.

  python tests/fingerprints.py --out=before.json
  python tests/fingerprints.py --against=before.json

Trains every kind of run for a few iterations and takes the SHA-256 of its
progress.csv without the columns that measure time, of its final parameters and
of the returns that `evaluate` reports. The bits depend on the processor and on
the versions of the libraries, so fingerprints are compared on one machine only.
"""

import argparse
import concurrent.futures
import csv
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

from trpo_tf.experiment import checkpoint

_TIMES = (
  'sample_seconds',
  'update_seconds',
  'env_steps_per_second',
  'elapsed_seconds',
)
_VINE = (
  '--sampler=vine --rollout_set_size=40 --branch_actions=3 --branch_length=9'
)
_CARTPOLE = (
  '--flagfile=configs/paper/cartpole.flags --num_slots=16 --batch_steps=16'
)
_ATARI = (
  '--task=atari/pong --flagfile=configs/atari/atari.flags --num_slots=8 '
  '--batch_steps=512 --atari_actions=joystick'
)
# Three iterations each; every value is the flags of one run.
_RUNS = {
  'native_single_path': '--task=Hopper-v5 --batch_steps=2000',
  'native_vine': f'--task=Walker2d-v5 --batch_steps=1000 {_VINE}',
  'native_uniform_vine': (
    f'--task=HalfCheetah-v5 --batch_steps=800 {_VINE} --branch_trials=2 '
    '--branch_proposal=uniform --vine_objective=importance_sampled '
    '--baseline=none'
  ),
  'native_humanoid': '--task=Humanoid-v5 --batch_steps=800',
  'paper_cartpole': _CARTPOLE,
  'cem': f'{_CARTPOLE} --method=cem --elite_fraction=0.2',
  'cma': f'{_CARTPOLE} --method=cma',
  'rwr': f'{_CARTPOLE} --method=rwr',
  'natural_gradient': f'{_CARTPOLE} --method=natural_gradient',
  'max_kl': f'{_CARTPOLE} --method=max_kl --max_kl=0.1',
  'empirical_fisher': f'{_CARTPOLE} --method=empirical_fisher',
  'kl_penalty': f'{_CARTPOLE} --method=kl_penalty --adapt_kl_coefficient',
  'policy_gradient': '--task=Swimmer-v5 --method=policy_gradient',
  'gymnasium_single_path': '--task=CartPole-v1 --batch_steps=800',
  'gymnasium_continuous': (
    '--task=Pendulum-v1 --batch_steps=800 --fisher_fraction=0.5'
  ),
  'gymnasium_vine': (
    f'--task=CartPole-v1 --batch_steps=400 {_VINE} --branch_proposal=all '
    '--vine_objective=all_actions'
  ),
  'gymnasium_continuous_vine': f'--task=Pendulum-v1 --batch_steps=400 {_VINE}',
  'atari_single_path': f'{_ATARI} --baseline=value_network',
  'atari_vine': f'{_ATARI} {_VINE} --branch_proposal=uniform --baseline=none',
}


def _module(name: str, *flags: str) -> None:
  command = [sys.executable, '-m', f'trpo_tf.bin.{name}', *flags]
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f'{command}: {done.stderr[-2000:]}')


def _digest(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()[:16]


def _fingerprint(flags: str, folder: pathlib.Path) -> dict[str, str]:
  """Trains and evaluates one run; returns digests of what it wrote."""
  run_dir = f'--run_dir={folder}'
  _module(
    'train',
    *flags.split(),
    '--total_iterations=3',
    '--total_env_steps=1000000000',
    '--seed=5',
    '--noprogress',
    '--notensorboard',
    '--tf_threads=1',
    run_dir,
  )
  rows = []
  with open(folder / 'progress.csv', newline='') as file:
    for row in csv.DictReader(file):
      rows.append({k: v for k, v in row.items() if k not in _TIMES})
  saved = checkpoint.load_newest(folder / 'checkpoints')
  assert saved is not None and len(rows) == 3
  found = dict(
    progress=_digest(json.dumps(rows).encode()),
    theta=_digest(saved.state['theta'].tobytes()),
  )
  if 'atari' not in flags:
    _module('evaluate', run_dir, '--episodes=3')
    record = json.loads((folder / 'evaluation.json').read_text())
    returns = [
      record[kind]['return']['values'] for kind in ('sampled', 'deterministic')
    ]
    found['evaluation'] = _digest(json.dumps(returns).encode())
  return found


def main() -> int:
  """Returns 1 where a fingerprint differs."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', help='file to write')
  parser.add_argument('--against', help='file to compare with')
  parser.add_argument(
    '--only', help='runs whose name contains this', default=''
  )
  args = parser.parse_args()
  chosen = {k: v for k, v in _RUNS.items() if args.only in k}
  with (
    tempfile.TemporaryDirectory() as folder,
    concurrent.futures.ThreadPoolExecutor(2) as pool,
  ):
    folders = [pathlib.Path(folder) / name for name in chosen]
    found = dict(
      zip(chosen, pool.map(_fingerprint, chosen.values(), folders), strict=True)
    )
  if args.out:
    pathlib.Path(args.out).write_text(json.dumps(found, indent=2) + '\n')
  if not args.against:
    return 0
  expected = json.loads(pathlib.Path(args.against).read_text())
  different = [name for name in found if found[name] != expected[name]]
  for name in different:
    print(f'{name}: {found[name]} instead of {expected[name]}')
  print(f'{len(found) - len(different)} of {len(found)} runs are the same')
  return 1 if different else 0


if __name__ == '__main__':
  sys.exit(main())
