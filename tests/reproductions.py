"""A table of two tasks and three methods, its flagfiles and its logs."""

import dataclasses
import pathlib

import numpy as np

from trpo_tf import config as config_lib
from trpo_tf.experiment import checkpoint, run_directory, sinks
from trpo_tf.methods.record import IterationRecord
from trpo_tf.reproduction import locomotion, plan, results
from trpo_tf.reproduction.table import Budget, Curve, Sweep, Table

ITERATIONS = 20
REFERENCE = Curve(
  x=np.array([0.0, 10.0, 30.0]),
  y=np.array([0.0, 1.0, 3.0]),
  errors=np.array([[10.0, 0.9, 1.2]]),
)


def table(folder: pathlib.Path) -> Table:
  """The table, with its flagfiles (empty ones) in `folder`."""
  folder.mkdir(exist_ok=True)
  budget = Budget(
    flags=lambda task, method: (f'--total_iterations={ITERATIONS}',),
    sweeps={'natural_gradient': Sweep('lagrange_multiplier', (3.0, 0.1))},
    seeds=2,
  )
  return dataclasses.replace(
    locomotion.TABLE,
    tasks={
      'cartpole': ('vine', 'natural_gradient', 'cma'),
      'walker': ('vine', 'natural_gradient'),
    },
    flagfiles=str(folder),
    budgets={'short': budget},
    reference={'cartpole': {'vine': REFERENCE, 'cma': REFERENCE}},
  )


def parse(flags) -> config_lib.ExperimentConfig:
  """The settings of flags as a plan has them, without those of flagfiles."""
  values = {'task': 'paper/cartpole', 'total_env_steps': 10**9}
  for flag in flags:
    name, _, value = flag.removeprefix('--').partition('=')
    if name == 'notensorboard':
      values['tensorboard'] = False
    elif name == 'flagfile':
      values['task'] = f'paper/{pathlib.Path(value).name.split("_")[0]}'
    else:
      kind = type(config_lib.settings(config_lib.ExperimentConfig())[name])
      values[name] = kind(value)
  return config_lib.from_settings(values)


def entries(table_: Table, out: pathlib.Path, seeds=2, pairs=None):
  """The table's plan."""
  pairs = pairs or plan.select(table_, (), ())
  counts = dict.fromkeys(pairs, seeds)
  return plan.make_entries(table_, 'short', counts, out, parse)


def write(run: plan.PlannedRun, returns, directory=None, **settings) -> None:
  """Writes what the train binary leaves of a run.

  Args:
    run: the run.
    returns: return_mean by iteration.
    directory: another place for it.
    settings: that differ from the planned ones.
  """
  values = config_lib.settings(run.config) | settings
  values['run_dir'] = str(directory or run.directory)
  config = config_lib.from_settings(values)
  with run_directory.RunDirectory.open(config) as opened:
    opened.begin()
    sink = sinks.CsvSink(opened.progress_csv, None)
    for i, value in enumerate(returns, 1):
      record = dict.fromkeys(sinks.COLUMNS, 0.0) | dict(
        iteration=i,
        env_steps=1000 * i,
        return_mean=value,
        elapsed_seconds=2.0 * i,
        mean_kl=0.01 / 3,
        step_status='accepted',
      )
      sink.write(sinks.Entry(IterationRecord(**record)))
    sink.close()
    if len(returns):
      checkpoint.save(opened.checkpoints, len(returns), {}, keep=1)


def result(
  task: str, method: str, values, env_steps, **fields
) -> results.Result:
  """Makes the Result of finished runs without a published curve.

  Args:
    task: the task.
    method: the method.
    values: of each seed and iteration.
    env_steps: after each iteration, those of all seeds.
    **fields: others of Result.
  """
  values = np.asarray(values, float)
  given = dict(
    setting='',
    sweep={},
    errors=np.full_like(values, np.nan),
    env_steps=np.broadcast_to(np.asarray(env_steps, float), values.shape),
    iterations=np.full(len(values), values.shape[1]),
    finished=True,
    planned_seeds=len(values),
    planned_iterations=0,
    planned_env_steps=10**9,
    reference=None,
    by_env_steps=False,
    window=1,
  )
  return results.Result(task, method, values=values, **given | fields)
