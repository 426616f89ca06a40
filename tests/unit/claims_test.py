"""The tables of the documentation are those of the committed data."""

import json
import pathlib
import re

import numpy as np
import pytest

from trpo_tf.bin import flags
from trpo_tf.errors import UserError
from trpo_tf.experiment import progress
from trpo_tf.optim.step import StepStatus
from trpo_tf.reproduction import document

_ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def generated():
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(_ROOT)  # flagfiles include each other from the root
    return document.files(pathlib.Path(), flags.parse)


def test_files_hold_the_generated_tables(generated):
  """If one differs: python -m trpo_tf.bin.document."""
  assert set(document.FILES) < set(generated)
  for name, text in generated.items():
    assert (_ROOT / name).read_text() == text, name


def test_every_table_of_data_is_generated():
  texts = ''.join((_ROOT / name).read_text() for name in document.FILES)
  assert re.findall('<!-- table: (.*) -->', texts) == [
    'v5 against published',
    'v5 bars',
    'vine every step',
    'Figure 4',
    'speed over physics',
    'v5 evaluations',
    'v5 bars',
    'v5 rival',
    'v5 time',
    'time to 3000',
    'v5 trials',
    'damping',
    'Figure 4 cartpole',
    'Figure 4 swimmer',
    'swimmer changes',
    'Figure 4 hopper',
    'Figure 4 walker',
    'Figure 4 hopper at equal env steps',
    'vine speed',
    'vine variance',
    'vine learning',
    'speed',
    'scale runs',
    'scale efficiency',
    'Atari gae',
    'Atari passed',
    'Atari single_path',
    'Atari vine',
    'Atari iterations',
    'Atari trials',
    'Atari speed',
    'Atari step',
    'Atari update',
    'Atari training',
    'estimators',
    'vine every step',
    'vine trials',
    'gallery',
    'KL bound',
    'kills',
    'soak',
    'worker memory',
    'fuzz',
  ]


def test_runs_of_the_table_have_the_presets_settings(monkeypatch):
  """All are of one clean commit; flags.txt and the preset are one config."""
  monkeypatch.chdir(_ROOT)
  common = ('--total_env_steps=1000000', '--sampler_threads=1')
  common += ('--eval_every_env_steps=100000', '--eval_episodes=5')
  common += ('--tf_threads=1', '--notensorboard')
  commits = set()
  for run in sorted(pathlib.Path('docs/results/v5').glob('*/*/')):
    task, seed = run.parts[-2:]
    own = [f'--flagfile=configs/v5/{task}.flags', f'--seed={seed}']
    own += [f'--run_dir=runs/v5/{task}/{seed}']
    found = flags.parse([f'--flagfile={run}/flags.txt'])
    assert found == flags.parse([*own, *common]), run
    git = json.loads((run / 'run.json').read_text())['git']
    assert not git['dirty']
    commits.add(git['commit'])
  assert len(commits) == 1


def _cells(text, row):
  (line,) = [x for x in text.splitlines() if x.startswith(f'| {row} |')]
  return [cell.strip() for cell in line.strip('|').split('|')]


def _numbers(text):
  return tuple(float(x) for x in re.findall(r'[+-]?\d+(?:\.\d+)?', text))


def test_only_what_beats_the_published_value_is_bold(generated):
  """Bold means that the lower end of our interval is above it."""
  rows = re.findall(r'^\| (\w+-v5) \|.*', generated['README.md'], re.MULTILINE)
  assert len(rows) == len(set(rows)) == 11
  bold = 0
  for task in rows:
    ours, _, published = _cells(generated['README.md'], task)[1:4]
    ends = _numbers(ours)[1:]  # none with one seed
    beaten = (
      bool(ends) and published != '-' and ends[0] > _numbers(published)[0]
    )
    assert ours.startswith('**') == beaten, task
    bold += beaten
  assert 0 < bold < 11


def test_no_accepted_step_exceeds_its_bound(generated):
  text = generated['docs/results/reliability.md']
  totals = [
    line for line in text.splitlines() if line.startswith('| all of these |')
  ]
  assert len(totals) == 2
  for line in totals:
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    assert cells[5] == '0'


def test_an_unknown_table():
  with pytest.raises(UserError, match="there is no table 'x': choose from a"):
    document.fill('<!-- table: x -->\n<!-- end of table -->', {'a': ''})


def _falls(name):
  """Of batches with a mean above 9.9: how many, and which falls follow them."""
  batches, falls = 0, []
  for seed in (0, 3, 4):
    path = _ROOT / f'docs/results/locomotion/extra/{name}_{seed}.csv'
    columns = progress.read_csv(path)
    solved = columns['return_mean'] > 9900
    batches += int(solved[:-1].sum())
    falls += [
      columns['episode_length_mean'][i] == 1000
      for i in np.flatnonzero(solved[:-1] & ~solved[1:])
    ]
  return batches, falls


def test_falls_of_a_solved_cart_pole():
  """Seven, six of them after batches without an early end; none with slack 1.

  The numbers are those of docs/results/figure4.md.
  """
  _, falls = _falls('cartpole_single_path')
  assert (len(falls), sum(falls)) == (7, 6)
  assert _falls('cartpole_single_path_kl_slack_1') == (106, [])


def test_troubleshooting_has_every_step_status():
  text = (_ROOT / 'docs/troubleshooting.md').read_text()
  found = re.findall(r'^\| `(\w+)` \|', text, re.MULTILINE)
  assert found == [status.name.lower() for status in StepStatus]
