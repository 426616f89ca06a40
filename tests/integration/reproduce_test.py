"""python -m trpo_tf.bin.reproduce with real training runs."""

import json
import signal
import subprocess
import sys
import time

import programs
import pytest

pytestmark = pytest.mark.slow
_ITERATIONS = 40
_FLAGS = (
  *(flag for flag in programs.TINY if flag != '--noprogress'),
  '--time_limit=1000',
  '--checkpoint_seconds=0',
  f'--total_iterations={_ITERATIONS}',
  '--total_env_steps=1000000',
)
_ONE = (
  '--budget=short',
  '--tasks=cartpole',
  '--methods=single_path',
  '--seeds=1',
  '--jobs=1',
  '--out=out',
)


def _start(folder, *flags):
  command = [sys.executable, '-m', 'trpo_tf.bin.reproduce', *flags]
  return subprocess.Popen(
    command,
    cwd=folder,
    env=programs.environment(),
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )


def _flagfile(folder, *more):
  path = folder / 'configs' / 'paper' / 'cartpole_single_path.flags'
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join((*_FLAGS, *more)) + '\n')


def _rows(path):
  return path.read_bytes().count(b'\n') - 1 if path.exists() else 0


def test_bad_input(tmp_path):
  commands = {
    ('--table=1',): 'should be one of <locomotion|atari>',
    ('--budget=long',): 'should be one of <smoke|short|paper>',
    ('--tasks=ant',): '--tasks=ant: choose from cartpole, swimmer, hopper',
    ('--methods=ppo',): '--methods=ppo: choose from vine, single_path',
    ('--tasks=hopper', '--methods=cma'): 'it goes with cartpole, swimmer',
    ('--seeds=-1',): '--seeds=-1',
    ('--seeds=1000000000',): '--seeds=1000000000',
    ('more',): "'more' is not a flag",
    (): 'start from the root of the repository',
  }
  results = programs.run('reproduce', list(commands), tmp_path)
  assert [r.code for r in results] == [2] * len(commands)
  for result, message in zip(results, commands.values(), strict=True):
    assert message in result.stderr
    assert result.stderr.count('\n') == 1 and not result.stdout
  _flagfile(tmp_path, '--batch_step=3')
  given = [_ONE, (*_ONE, '--report_only')]
  result, nothing = programs.run('reproduce', given, tmp_path)
  assert nothing.code == result.code == 2
  assert nothing.stderr == 'reproduce: out/short has no results yet\n'
  assert "Unknown command line flag 'batch_step'" in result.stderr
  assert 'cartpole_single_path.flags' in result.stderr


def test_stopped_and_continued(tmp_path):
  _flagfile(tmp_path)
  process = _start(tmp_path, *_ONE)
  run = tmp_path / 'out/short/cartpole/single_path/0'
  end = time.monotonic() + 200
  while _rows(run / 'progress.csv') < 2:
    assert process.poll() is None and time.monotonic() < end
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  stopped = programs.finish(process)
  if _rows(run / 'progress.csv') < _ITERATIONS:  # else it was done before
    assert stopped.code == 3, stopped
    assert 'the same command continues' in stopped.stdout
    assert not (tmp_path / 'out/short/table.md').exists()

  continued = programs.finish(_start(tmp_path, *_ONE))
  assert continued.code == 0, continued
  assert not continued.stderr
  iterations = [int(row[0]) for row in programs.progress(run)]
  assert iterations == list(range(1, _ITERATIONS + 1))
  assert '1 of 1 runs done' in continued.stdout
  table = (tmp_path / 'out/short/table.md').read_text()
  assert f'| single path | 1 | {_ITERATIONS} | 8.0k |' in table

  _flagfile(tmp_path, '--max_kl=0.02')
  refused = programs.finish(_start(tmp_path, *_ONE))
  assert refused.code == 1, refused
  assert 'cartpole single_path 0: FAILED after' in refused.stdout
  assert '--max_kl=0.01 there, --max_kl=0.02 here' in refused.stdout
  assert '1 run failed; the same command tries again' in refused.stdout
  assert (tmp_path / 'out/short/table.md').read_text() == table


def test_smoke_of_the_cart_pole(tmp_path):
  """With the flagfiles that the repository has."""
  flags = (
    '--budget=smoke',
    '--tasks=cartpole',
    '--methods=natural_gradient',
    f'--out={tmp_path}',
    f'--publish={tmp_path}/docs',
  )
  done = programs.finish(_start(programs.ROOT, *flags))
  assert done.code == 0, done
  assert done.stdout.startswith('2 runs, 0 of them finished; at most ')
  out = tmp_path / 'smoke'
  table = (out / 'table.md').read_text()
  assert '| natural gradient (lagrange_multiplier=' in table
  assert (tmp_path / 'docs/table.md').read_text() == table
  assert len(list((tmp_path / 'docs/csv').iterdir())) == 2
  run = out / 'cartpole/natural_gradient/1/0'
  settings = json.loads((run / 'run.json').read_text())['settings']
  assert settings['method'] == 'natural_gradient'
  assert settings['lagrange_multiplier'] == 1
  assert settings['task'] == 'paper/cartpole'
  assert settings['sampler_threads'] >= 1 and not settings['tensorboard']
  again = programs.finish(_start(programs.ROOT, *flags, '--report_only'))
  assert again.code == 0, again
  assert (out / 'table.md').read_text() == table


def test_smoke_of_an_atari_game(tmp_path):
  """With the flagfiles that the repository has."""
  flags = (
    '--table=atari',
    '--budget=smoke',
    '--tasks=pong',
    '--methods=random,gae',
    f'--out={tmp_path}',
  )
  done = programs.finish(_start(programs.ROOT, *flags))
  assert done.code == 0, done
  assert done.stdout.startswith('2 runs, 0 of them finished; at most ')
  out = tmp_path / 'smoke'
  table = (out / 'table.md').read_text()
  assert '| value network' in table and 'human (Mnih et al. 2013)' in table
  names = {path.name for path in (out / 'csv').iterdir()}
  assert names == {'pong_random_0.csv', 'pong_gae_0.csv'}
  run = json.loads((out / 'pong/gae/0/run.json').read_text())
  assert run['settings']['task'] == 'atari/pong'
  assert run['settings']['clip_rewards']
  assert (out / 'figure.png').stat().st_size > 10_000
