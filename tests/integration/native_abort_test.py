"""An environment whose native code ends the process says where it was."""

import subprocess
import sys

import programs
import pytest

_MODULE = """
import os
import gymnasium

class Aborts(gymnasium.Env):
  observation_space = gymnasium.spaces.Box(-1, 1, (2,))
  action_space = gymnasium.spaces.Discrete(2)

  def reset(self, *, seed=None, options=None):
    os.abort()

gymnasium.register('Aborts-v0', Aborts)
"""


_TRAIN = (sys.executable, '-m', 'trpo_tf.bin.train')


@pytest.mark.slow
def test_the_place_is_shown(tmp_path):
  (tmp_path / 'aborting.py').write_text(_MODULE)
  task = '--task=aborting:Aborts-v0'
  done = subprocess.run(
    [*_TRAIN, *programs.TINY, task, '--run_dir=r'],
    env=programs.environment(tmp_path),
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert done.returncode < 0
  assert 'Fatal Python error: Aborted' in done.stderr
  assert 'aborting.py", line 10 in reset' in done.stderr
