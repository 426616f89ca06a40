"""What the programs that do many runs share: flags, signals and exit codes."""

import contextlib
import os
import pathlib
import signal
from collections.abc import Callable, Iterator, Sequence

from absl import flags as absl_flags

from trpo_tf import errors
from trpo_tf.distributed import ray_cluster
from trpo_tf.reproduction import runner
from trpo_tf.reproduction.campaign import Campaign
from trpo_tf.reproduction.local_pool import LocalPool
from trpo_tf.reproduction.plan import Entry, PlannedRun
from trpo_tf.reproduction.ray_pool import RayPool
from trpo_tf.reproduction.table import Table

__all__ = ['define', 'run']

_EXIT_FAILED = 1
_EXIT_STOPPED = 3  # as in train: the same command continues

# --help shows the flags of the program that called define().
absl_flags.disclaim_key_flags()


def define() -> None:
  """Defines the flags of a program that does many runs."""
  absl_flags.DEFINE_integer(
    'jobs',
    0,
    'runs side by side on this machine, which share its cores; 0: one per core',
    lower_bound=0,
  )
  absl_flags.DEFINE_string(
    'ray_address',
    '',
    'do the runs as tasks of Ray, one core each: local: start Ray here; auto: '
    'the cluster that this machine belongs to; HOST:PORT: the cluster with '
    'that head; empty: as processes, without Ray (docs/cluster.md)',
  )
  absl_flags.DEFINE_bool(
    'report_only', False, 'run nothing: write the results of existing runs'
  )


def run(
  table: Table,
  plan: Callable[[], Sequence[Entry]],
  out: pathlib.Path,
  report: Callable[[], bool],
) -> int:
  """Does the runs that are missing and writes the results.

  Args:
    table: how the runs are measured.
    plan: returns the runs; not called under --report_only.
    out: directory of the runs.
    report: writes the results and returns whether there were any.

  Returns:
    The exit code: 0, 1 if runs have failed, or 3 after a signal.

  Raises:
    UserError: --report_only without results; or see `ray_cluster.connect`.
  """
  if absl_flags.FLAGS.report_only:
    if not report():
      raise errors.UserError(f'{out} has no results yet')
    return 0
  entries = plan()
  with _pool(out) as pool:
    campaign = Campaign(
      table, entries, pool, lambda line: print(line, flush=True)
    )
    finished = campaign.run(_arguments(pool), _count_stops())
  if not finished:
    print(
      'stopped: the same command continues; with --report_only it writes '
      'the table of what there is'
    )
    return _EXIT_STOPPED
  report()
  if count := len(campaign.failures):
    print(
      f'{count} run{"s" * (count > 1)} failed; the same command tries again'
    )
    return _EXIT_FAILED
  return 0


@contextlib.contextmanager
def _pool(out: pathlib.Path) -> Iterator[runner.Pool]:
  """Chooses where the runs are done, by --ray_address and --jobs."""
  jobs, address = absl_flags.FLAGS.jobs, absl_flags.FLAGS.ray_address
  if not address:
    yield LocalPool(jobs or _cores())
    return
  if jobs and address != 'local':
    raise errors.UserError(
      f'--jobs={jobs} does not go with --ray_address={address}: the cluster '
      'does as many runs side by side as it has cores'
    )
  with ray_cluster.connect(address, jobs or None) as cluster:
    out.mkdir(parents=True, exist_ok=True)
    ray_cluster.require_shared(out)
    yield RayPool(cluster)


def _cores() -> int:
  return len(os.sched_getaffinity(0))


def _arguments(pool: runner.Pool) -> Callable[[PlannedRun], list[str]]:
  """Trains with the cores that a process has, unless the flags say more."""
  threads = 1
  if isinstance(pool, LocalPool):
    threads = max(1, _cores() // pool.size)
  return lambda run: [
    '-m',
    'trpo_tf.bin.train',
    *run.flags,
    '--noprogress',
    f'--sampler_threads={run.config.sampler.sampler_threads or threads}',
    f'--tf_threads={run.config.run.tf_threads or threads}',
  ]


def _count_stops() -> Callable[[], int]:
  """Starts counting signals that ask to stop; returns the counter."""
  received = []
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
      signal.signal(number, lambda number, frame: received.append(number))
  return lambda: len(received)
