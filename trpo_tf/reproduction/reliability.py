"""The tables of docs/results/reliability.md."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.experiment import progress, saved_runs, tables
from trpo_tf.reproduction import logs
from trpo_tf.reproduction.plan import Entry

__all__ = [
  'KlCount',
  'count',
  'fuzz',
  'kills',
  'markdown',
  'planned_runs',
  'run_directories',
  'soak',
  'worker_memory',
]

# Methods whose step has a bound on the KL, and the column that it bounds. The
# others have none: natural gradient, CEM, CMA-ES, RWR, KL penalty.
_BOUNDED = {
  'trpo': 'mean_kl',
  'empirical_fisher': 'mean_kl',
  'max_kl': 'max_state_kl',
}
# Columns of a run, [iterations] each, and its settings.
Run = tuple[Mapping[str, np.ndarray], ExperimentConfig]


@dataclasses.dataclass(frozen=True)
class KlCount:
  """The accepted steps of a group of runs with the same bound.

  Attributes:
    group: name of the group.
    kl_slack: multiple of delta that the line search accepts.
    runs: number of runs.
    accepted: accepted steps of all runs.
    above_delta: those whose KL is above delta.
    violations: those whose KL is above kl_slack times delta.
    largest: the largest KL of an accepted step over its delta.
  """

  group: str
  kl_slack: float
  runs: int
  accepted: int
  above_delta: int
  violations: int
  largest: float


def count(group: str, runs: Iterable[Run]) -> list[KlCount]:
  """Counts the steps of a group; a method without a bound is left out.

  Args:
    group: name of the group.
    runs: progress and settings of its runs.

  Returns:
    A count for each kl_slack of the group.
  """
  ratios: dict[float, list[np.ndarray]] = {}
  for columns, config in runs:
    if (column := _BOUNDED.get(config.method.method)) is None:
      continue
    kl, bound = columns[column], config.trust_region
    # The slim files of report.py have no status. A refused step has KL 0.
    accepted = (
      columns['step_status'] == 'accepted'
      if 'step_status' in columns
      else columns['mean_kl'] > 0
    )
    ratio = kl[accepted] / bound.max_kl
    ratios.setdefault(bound.kl_slack, []).append(ratio)
  return [
    KlCount(
      group,
      slack,
      len(found),
      sum(ratio.size for ratio in found),
      sum(int((ratio > 1).sum()) for ratio in found),
      sum(int((ratio > slack).sum()) for ratio in found),
      max(float(ratio.max()) for ratio in found if ratio.size),
    )
    for slack, found in sorted(ratios.items())
  ]


def run_directories(directory: pathlib.Path) -> list[Run]:
  """Reads all run directories below a directory, in the order of their paths.

  Raises:
    UserError: a run.json or progress.csv is damaged.
  """
  paths = sorted(path.parent for path in directory.rglob('run.json'))
  return [
    (progress.read_csv(path / 'progress.csv'), saved_runs.read_config(path))
    for path in paths
  ]


def planned_runs(entries: Sequence[Entry], read: logs.Read) -> list[Run]:
  """Reads the runs of a reproduction that exist, with the planned settings.

  Args:
    entries: the entries of the plan.
    read: reads the log of a run.

  Returns:
    Progress and settings of each run.
  """
  return [
    (log.progress, run.config)
    for entry in entries
    for runs in entry.variants.values()
    for run in runs
    if (log := read(run)) is not None
  ]


def markdown(counts: Sequence[KlCount]) -> str:
  """Renders the counts, and a total for each kl_slack."""
  heads = (
    'runs',
    'kl_slack',
    'number of runs',
    'accepted steps',
    'KL above delta',
    'KL above kl_slack x delta',
    'largest KL / delta',
  )
  rows = [_row(one) for one in counts]
  for slack in sorted({one.kl_slack for one in counts}):
    group = [one for one in counts if one.kl_slack == slack]
    total = KlCount(
      'all of these',
      slack,
      runs=sum(one.runs for one in group),
      accepted=sum(one.accepted for one in group),
      above_delta=sum(one.above_delta for one in group),
      violations=sum(one.violations for one in group),
      largest=max(one.largest for one in group),
    )
    rows.append(_row(total))
  return tables.grid(heads, rows)


def kills(path: pathlib.Path) -> str:
  """Renders what tests/crash/kills.py wrote.

  Args:
    path: its JSON file.
  """
  heads = (
    'kind of run',
    'runs',
    'kills',
    'kills whose run ended with equal bytes',
  )
  rows = [
    (kind, *(str(found[name]) for name in ('runs', 'kills', 'equal')))
    for kind, found in json.loads(path.read_bytes()).items()
  ]
  return tables.grid(heads, rows)


def fuzz(path: pathlib.Path) -> str:
  """Renders what the tests with the marker fuzz wrote.

  Args:
    path: their JSON file.
  """
  names = 'calls', 'refused', 'findings'
  rows = []
  total = dict.fromkeys(names, 0)
  for kind, draws in json.loads(path.read_bytes()).items():
    counts = {name: sum(one[name] for one in draws.values()) for name in names}
    total = {name: total[name] + counts[name] for name in names}
    rows.append(_fuzz_row(kind, counts))
  return tables.grid(['drawn', *names], [*rows, _fuzz_row('all calls', total)])


def _fuzz_row(kind: str, counts: Mapping[str, int]) -> list[str]:
  return [kind, *(f'{count:,}' for count in counts.values())]


def soak(path: pathlib.Path) -> str:
  """Renders what tests/crash/soak.py wrote.

  Args:
    path: its JSON file.
  """
  heads = (
    'kind of run',
    'iterations',
    'MB',
    'open files',
    'accepted steps',
    'KL above delta',
  )
  rows = []
  for kind, found in json.loads(path.read_bytes()).items():
    usage = found['usage']
    shown = usage[0], usage[len(usage) // 2], usage[-1]
    columns = [
      ', '.join(f'{used[name]:.0f}' for used in shown)
      for name in ('iteration', 'megabytes', 'files')
    ]
    steps = found['steps']
    above = steps['above_delta'] if kind != 'CEM' else 'no bound'
    rows.append((kind, *columns, f'{steps["accepted"]:,}', str(above)))
  return tables.grid(heads, rows)


def worker_memory(paths: Sequence[pathlib.Path]) -> str:
  """Renders what tests/crash/worker_memory.py wrote.

  Args:
    paths: its JSON files, which are named after the games.
  """
  heads = 'run', 'env steps', 'MB of a worker', 'most', 'MB of the program'
  rows = []
  for path in paths:
    found = json.loads(path.read_bytes())
    shown = found[0], found[len(found) // 2], found[-1]
    most = max(size for entry in found for size in entry['workers'])
    rows.append(
      (
        path.stem,
        ', '.join(f'{entry["env_steps"] / 1e6:.2f}M' for entry in shown),
        ', '.join(f'{max(entry["workers"]):.0f}' for entry in shown),
        f'{most:.0f}',
        ', '.join(f'{entry["program"]:,.0f}' for entry in shown),
      )
    )
  return tables.grid(heads, rows)


def _row(one: KlCount) -> tuple[str, ...]:
  share = f' ({one.above_delta / one.accepted:.1%})' if one.above_delta else ''
  return (
    one.group,
    f'{one.kl_slack:g}',
    f'{one.runs}',
    f'{one.accepted:,}',
    f'{one.above_delta:,}{share}',
    f'{one.violations:,}',
    f'{one.largest:.3f}',
  )
