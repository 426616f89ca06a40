"""Writes the tables of README.md, RESULTS.md and some pages of docs/.

A generated table stands between two comments, which name it:

    <!-- table: NAME -->
    <!-- end of table -->

Prose around the tables is written by hand.
"""

import io
import pathlib
import re
from collections.abc import Mapping, Sequence

from trpo_tf.errors import UserError
from trpo_tf.experiment import progress
from trpo_tf.reproduction import (
  ablations,
  atari,
  atari_scores,
  atari_trials,
  equal_steps,
  estimators,
  figure,
  gallery,
  learning,
  locomotion,
  markdown,
  plan,
  published,
  reliability,
  results,
  rivals,
  scale,
  speed,
  times,
  trials,
  vine_speed,
)
from trpo_tf.reproduction.table import Table

__all__ = ['FILES', 'figures', 'files', 'fill']

# Files with tables, and the reports that are generated as a whole, with their
# budget and number of seeds; None: as many as have files.
FILES = (
  'README.md',
  'RESULTS.md',
  'docs/results/learning.md',
  'docs/results/figure4.md',
  'docs/results/vine.md',
  'docs/results/speed.md',
  'docs/results/scale.md',
  'docs/results/atari.md',
  'docs/vine.md',
  'docs/gallery/README.md',
  'docs/results/reliability.md',
)
_REPORTS = {
  'docs/results/locomotion': (locomotion.TABLE, 'short', 5),
  'docs/results/locomotion/paper': (locomotion.TABLE, 'paper', 5),
  'docs/results/atari': (atari.TABLE, 'short', None),
}
# Single runs beside the reports: the flags that made the files of a pattern.
_EXTRA = {
  'cartpole_single_path_[0-9].csv': (
    '--flagfile=configs/paper/cartpole_single_path.flags',
  ),
  'cartpole_single_path_kl_slack_1_?.csv': (
    '--flagfile=configs/paper/cartpole_single_path.flags',
    '--kl_slack=1',
  ),
  'cartpole_max_kl_0.03_?.csv': (
    '--flagfile=configs/paper/cartpole_max_kl.flags',
    '--max_kl=0.03',
  ),
  'hopper_single_path_max_kl_0.05_?.csv': (
    '--flagfile=configs/paper/hopper_single_path.flags',
    '--max_kl=0.05',
  ),
}
_BLOCK = re.compile(
  r'(<!-- table: (.*?) -->\n).*?(<!-- end of table -->)', re.DOTALL
)


def _seeds(directory: pathlib.Path, name: str) -> int:
  return max(1, len(list(directory.glob(f'csv/{name}_[0-9].csv'))))


class _Report:
  """A published report: its plan, and the results in its CSV files."""

  def __init__(
    self,
    directory: pathlib.Path,
    name: str,
    table: Table,
    budget: str,
    seeds: int | None,
    parse: plan.Parse,
  ):
    self.name, self.table, self._budget = name, table, budget
    counts = {
      (task, method): seeds or _seeds(directory, f'{task}_{method}')
      for task, method in plan.select(table, (), ())
    }
    self.entries = plan.make_entries(table, budget, counts, directory, parse)
    self.read = published.CsvLogs(table, directory)
    self.results = results.gather(table, self.entries, self.read)

  @property
  def text(self) -> str:
    """The content of table.md."""
    return markdown.render(self.table, self._budget, self.results)


def files(root: pathlib.Path, parse: plan.Parse) -> dict[str, str]:
  """Makes the contents of all files that have generated tables.

  Args:
    root: the root of the repository, which is the current directory.
    parse: parses flags of the train binary to settings.

  Returns:
    By path relative to `root`, the text that the file should have.

  Raises:
    UserError: a file or a run that a table needs is missing, or a file names a
      table that does not exist.
  """
  reports = _reports(root, parse)
  found = _tables(root / 'docs/results', reports, parse)
  found['gallery'] = gallery.table(root / 'docs/gallery')
  texts = {name: fill((root / name).read_text(), found) for name in FILES}
  for report in reports:
    texts[f'{report.name}/table.md'] = report.text
  return texts


def figures(root: pathlib.Path, parse: plan.Parse) -> dict[str, bytes]:
  """Draws the figures of the reports from their CSV files.

  Args:
    root: the root of the repository, which is the current directory.
    parse: parses flags of the train binary to settings.

  Returns:
    By path relative to `root`, the content of each PNG file. A band needs the
    errors of its run, which older files of Atari have for the last row alone.
  """
  drawn = {}
  for report in _reports(root, parse):
    picture = io.BytesIO()
    figure.draw(report.table, report.results).savefig(picture, format='png')
    drawn[f'{report.name}/figure.png'] = picture.getvalue()
  return drawn


def _reports(root: pathlib.Path, parse: plan.Parse) -> list[_Report]:
  return [
    _Report(root / name, name, table, budget, seeds, parse)
    for name, (table, budget, seeds) in _REPORTS.items()
  ]


def fill(text: str, found: Mapping[str, str]) -> str:
  """Puts tables between the comments that name them.

  Args:
    text: a Markdown text.
    found: the tables by name.

  Returns:
    The text with these tables in the place of what was there.

  Raises:
    UserError: the text names a table that is not among `found`.
  """

  def replace(match: re.Match[str]) -> str:
    begin, name, end = match.groups()
    if name not in found:
      raise UserError(
        f'there is no table {name!r}: choose from {", ".join(sorted(found))}'
      )
    return f'{begin}\n{found[name]}\n\n{end}'

  return _BLOCK.sub(replace, text)


def _tables(
  data: pathlib.Path, reports: Sequence[_Report], parse: plan.Parse
) -> dict[str, str]:
  """Makes all tables by name from docs/results and its reports."""
  rows = learning.read(data / 'v5')
  seconds = times.median_seconds(data / 'v5')
  found = {
    'v5 evaluations': learning.evaluations(rows),
    'v5 against published': learning.against_published(rows),
    'v5 bars': learning.bars(rows),
    'v5 time': times.of_runs(seconds, 1_000_000),
    'v5 rival': rivals.table(rows, seconds, data / 'rival'),
    'time to 3000': times.to_reach(data / 'v5_time/hopper', 3000),
    'damping': ablations.damping(data / 'v5_trials'),
    'vine learning': learning.vine(data / 'vine'),
    'vine every step': learning.every_step(data / 'vine'),
    'v5 trials': trials.v5(data / 'v5_trials'),
    'vine trials': trials.table(data / 'vine/trials', trials.VINE),
    'vine speed': vine_speed.speed(data / 'vine'),
    'vine variance': vine_speed.variance(data / 'vine'),
    'speed': speed.table(data / 'bench.json'),
    'speed over physics': speed.over_physics(
      data / 'bench.json', data / 'vine'
    ),
    'Atari passed': atari_scores.passed(atari.TABLE, data / 'atari/csv', 'gae'),
    'Atari iterations': atari_scores.after_equal_iterations(
      atari.TABLE, data / 'atari'
    ),
    'Atari trials': atari_trials.table(data / 'atari/trials'),
    'Atari speed': speed.atari(data / 'atari/bench.json'),
    'Atari step': speed.atari_step(data / 'atari/step.json'),
    'Atari training': speed.atari_training(data / 'atari/pong_bench.json'),
    'Atari update': speed.atari_update(data / 'atari/update.json'),
    'swimmer changes': ablations.swimmer(data / 'locomotion/swimmer'),
    'scale runs': scale.runs(data / 'scale.json'),
    'scale efficiency': scale.efficiency(data / 'scale.json'),
    'estimators': estimators.table(data / 'vine/estimators'),
  }
  figure4, large, games = reports
  found['Figure 4 hopper at equal env steps'] = equal_steps.table(
    large.table, large.results, 'hopper'
  )
  for method in games.table.methods:
    found[f'Atari {method}'] = atari_scores.table(
      games.table, games.results, method
    )
  found['Figure 4'] = markdown.across_tasks(
    figure4.table, figure4.results, ('single_path', 'vine')
  )
  for task in figure4.table.tasks:
    found[f'Figure 4 {task}'] = markdown.task_table(
      figure4.table, figure4.results, task
    )
  counts = []
  for report in reports:
    for task in report.table.tasks:
      part = [entry for entry in report.entries if entry.task == task]
      counts += reliability.count(
        f'{report.name.removeprefix("docs/results/")}, {task}',
        reliability.planned_runs(part, report.read),
      )
  for group in ('v5', 'vine'):
    runs = reliability.run_directories(data / group)
    counts += reliability.count(group, runs)
  extra = [
    (progress.read_csv(path), parse(flags))
    for pattern, flags in _EXTRA.items()
    for path in sorted((data / 'locomotion/extra').glob(pattern))
  ]
  counts += reliability.count('locomotion/extra', extra)
  found['KL bound'] = reliability.markdown(counts)
  found['kills'] = reliability.kills(data / 'reliability/kills.json')
  found['fuzz'] = reliability.fuzz(data / 'reliability/fuzz.json')
  found['soak'] = reliability.soak(data / 'reliability/soak.json')
  found['worker memory'] = reliability.worker_memory(
    sorted((data / 'reliability/workers').glob('*.json'))
  )
  return found
