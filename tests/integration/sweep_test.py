"""python -m trpo_tf.bin.sweep without a run; ray_test.py has one with runs."""

import importlib.util
import pathlib

import numpy as np
import programs
import pytest
import reproductions

from trpo_tf.bin import flags
from trpo_tf.reproduction import sweep

pytestmark = pytest.mark.slow
_FLAGFILE = (
  '--preset=v5/hopper\n--task=CartPole-v1\n--total_iterations=20\n'
  '--run_dir=ignored\n'
)
_GIVEN = '--flagfile=cart.flags', '--grid=max_kl=0.01,0.02', '--out=out'


def _wrong_commands():
  ray = importlib.util.find_spec('ray') is not None
  missing = 'no Ray answers at 127.0.0.1:9' if ray else 'needs Ray: pip install'
  return {
    (): '--out is missing',
    ('--out=out', '--grid=max_kl'): '--grid=max_kl: write NAME=VALUE,VALUE',
    ('--out=out', '--grid=seed=1'): 'give the number of seeds by --seeds',
    ('--out=out', '--grid=max_kl=-1'): '--max_kl=-1.0 is outside',
    ('--out=out', '--seeds=0'): '--seeds=0',
    ('--out=out', '--max_kl=x'): '--max_kl=x',
    ('--out=out', '--task=NoSuch-v0'): 'NoSuch',
    ('--out=out', 'more'): "'more' is not a flag",
    ('--out=out', '--flagfile=none.flags'): 'none.flags',
    ('--out=~nosuchuser/x',): '~nosuchuser/x',
    (*_GIVEN, '--report_only'): 'out has no results yet',
    (*_GIVEN, '--jobs=2', '--ray_address=h:1'): '--jobs=2 does not go with',
    (*_GIVEN, '--ray_address=127.0.0.1:9'): missing,
  }


def test_bad_input(tmp_path):
  (tmp_path / 'cart.flags').write_text(_FLAGFILE)
  commands = _wrong_commands()
  results = programs.run('sweep', list(commands), tmp_path)
  for result, message in zip(results, commands.values(), strict=True):
    assert result.code == 2 and message in result.stderr, result
    assert result.stderr.count('\n') == 1 and not result.stdout, result
  assert not (tmp_path / 'out').exists()


def test_results_of_what_there_is(tmp_path):
  (tmp_path / 'cart.flags').write_text(_FLAGFILE)
  base = flags.parse(
    ['--preset=v5/hopper', '--task=CartPole-v1', '--total_iterations=20']
  )
  entries = sweep.make_entries(
    sweep.parse_grid(['max_kl=0.01,0.02']),
    base,
    1,
    pathlib.Path(tmp_path / 'out'),
    flags.parse,
  )
  for entry in entries:
    reproductions.write(entry.runs('')[0], np.arange(20))
  # nothing is left to run, so the second command ends at once too
  commands = [(*_GIVEN, '--report_only'), _GIVEN, (*_GIVEN, '--seeds=1')]
  for result in programs.run('sweep', commands, tmp_path):
    assert not result.code and not result.stderr
    assert 'written to out: table.md, curves.png\n' in result.stdout
  assert result.stdout.startswith('2 runs, 2 of them finished; at most 0 env')
  table = (tmp_path / 'out/table.md').read_text()
  for value in ('0.01', '0.02'):
    assert f'| CartPole-v1 | {value} | 1 | 20 | 20.0k | 18.500 |' in table
  assert (tmp_path / 'out/curves.png').read_bytes()[:4] == b'\x89PNG'
