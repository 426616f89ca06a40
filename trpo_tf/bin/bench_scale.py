"""Measures one run on many workers, and predicts it for a thousand.

  python -m trpo_tf.bin.bench_scale --json=FILE

Starts Ray on this machine. Measures a map without work, the operations on a
shard, and iterations for several numbers of shards and workers; fits a model of
the time of an iteration, and predicts the efficiency for up to 1,000 workers.
Prints tables, and writes FILE and a picture next to it.
"""

import statistics
from typing import Any

from absl import flags as absl_flags
from rich.console import Console

from trpo_tf.bin import flags
from trpo_tf.errors import UserError
from trpo_tf.experiment import result_files

_JSON = absl_flags.DEFINE_string(
  'json', 'runs/bench_scale.json', 'where to write; the picture is FILE.png'
)
_STEPS = absl_flags.DEFINE_integer(
  'steps', 51_200, 'env steps of a batch, a multiple of 640', lower_bound=640
)
_ITERATIONS = absl_flags.DEFINE_integer(
  'iterations', 5, 'iterations of each measurement', lower_bound=1
)
_WORKERS = absl_flags.DEFINE_integer(
  'workers', 2, 'largest number of workers that get shards', lower_bound=1
)
_LARGE = absl_flags.DEFINE_integer(
  'large_steps',
  1_024_000,
  'env steps of a large batch, a multiple of 640, for two runs of three '
  'iterations; 0: none',
  lower_bound=0,
)
_SHARDS = 8
_LARGE_ITERATIONS = 3


def _measure(say: Any) -> dict[str, Any]:
  """Measures everything but the run in one part."""
  from trpo_tf.benchmarks import scale, scale_figure, scale_model
  from trpo_tf.distributed import ray_cluster
  from trpo_tf.experiment import backend

  steps, count = _STEPS.value, _ITERATIONS.value
  runs, echo = [], []

  def add(found: Any, shards: int, workers: int, note: str = '', batch=steps):
    engine = f'{workers} Ray worker{"s" if workers > 1 else ""}'
    runs.append(
      dict(
        shards=shards,
        engine=(engine if workers else 'this process') + note,
        workers=workers,
        batch_steps=batch,
        seconds=found.seconds,
        operations=found.operations,
        learner=found.learner,
      )
    )
    return runs[-1]

  def run(shards: int, workers: int, batch: int = steps, times: int = count):
    say(f'{shards} shards, {workers} Ray workers, {batch:,} env steps')
    config = scale.experiment(batch, shards)
    found = scale.timed_run(config, workers, times)
    return add(found, shards, workers, batch=batch)

  programs: dict[int, list[float]] = {1: [], _SHARDS: []}
  for shards in (1, _SHARDS, _SHARDS, 1):  # the machine's speed drifts
    say(f'{shards} shards, the program train')
    config = scale.experiment(steps, shards)
    programs[shards] += scale.program_seconds(config, count)
  for shards, measured in programs.items():
    runs.append(
      dict(
        shards=shards,
        engine='the program train',
        workers=0,
        batch_steps=steps,
        seconds=statistics.median(measured),
      )
    )
  for shards in (2, 8, 64):
    run(shards, 0)
  with ray_cluster.connect('local', _WORKERS.value):
    for workers in (1, 2, 4, 8):
      for size in (1_000, 10_000, 100_000):
        say(f'a map to {workers} workers, {8 * size:,} bytes')
        seconds = scale.echo_seconds(workers, size)
        echo.append((workers, 8 * size, seconds))
    alone = run(_SHARDS, 1)  # its learner's cores are idle otherwise
    say(f'{_WORKERS.value} runs of 1 Ray worker at the same time')
    config = scale.experiment(steps, _SHARDS)
    one = scale.crowded_run(config, _WORKERS.value, count)
    note = ', other cores as busy' if _WORKERS.value > 1 else ''
    predicted = [add(one, _SHARDS, 1, note)]
    predicted += [run(_SHARDS, w) for w in range(2, _WORKERS.value + 1)]
    if _LARGE.value:
      run(_SHARDS, 0, _LARGE.value, _LARGE_ITERATIONS)
      found = run(_SHARDS, _WORKERS.value, _LARGE.value, _LARGE_ITERATIONS)
      predicted.append(found)
  latency = scale_model.fit_latency({(w, 2 * b): s for w, b, s in echo})
  policy = backend.resolve(config).policy()
  value = policy.network.with_layers(
    config.estimator.value_hidden_sizes, 1, 'tanh'
  )
  sizes = policy.num_parameters, value.num_parameters
  model = scale_model.fit_model(
    one.operations, steps, sizes, latency, alone['learner']
  )
  for made in predicted:
    parts = model.seconds(made['workers'], made['batch_steps'])
    made['predicted'] = sum(parts.values())
  efficiency = {
    batch: {w: model.efficiency(w, batch) for w in scale_figure.WORKERS}
    for batch in scale_figure.BATCHES
  }
  return dict(
    echo=echo,
    runs=runs,
    efficiency=efficiency,
    model=model._asdict() | {'latency': latency._asdict()},
    assumptions=scale_model.ASSUMPTIONS,
  )


def main(_) -> None:
  """Measures, prints tables and writes the JSON file and the picture."""
  path = result_files.require_json(_JSON.value)
  for flag in (_STEPS, _LARGE):
    if flag.value % 640:
      raise UserError(f'--{flag.name}={flag.value} is not a multiple of 640')
  flags.import_tensorflow()
  from trpo_tf.benchmarks import scale_figure
  from trpo_tf.distributed import local
  from trpo_tf.experiment import provenance

  local.one_thread_per_shard()
  console = Console(markup=False, highlight=False)
  result = dict(session=provenance.session())
  result |= _measure(lambda text: console.print(text, style='dim'))
  result_files.write_json(path, result)
  for table in scale_figure.tables(result):
    console.print(table)
  picture = path.with_suffix('.png')
  scale_figure.draw(result).savefig(picture)
  console.print(f'written to {path} and {picture}')


if __name__ == '__main__':
  flags.run(main)
