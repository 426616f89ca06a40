"""Every flagfile of the repository parses to settings that agree."""

import pathlib

import pytest
from absl import flags as absl_flags

from trpo_tf import config
from trpo_tf.bin import flags
from trpo_tf.reproduction import atari, locomotion
from trpo_tf.tasks.atari import PAPER_GAMES

_CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
_OVERLAYS = 'vine', 'vine_short', 'vine_no_value', 'single_path_no_value'


def _resolve(*arguments):
  values = absl_flags.FlagValues()
  flags.define(values)
  assert values(['train', *arguments]) == ['train']
  return flags.experiment_config(values)


def _path(path):
  return f'--flagfile={path.relative_to(_CONFIGS.parent)}'


@pytest.fixture(autouse=True)
def _root(monkeypatch):
  monkeypatch.chdir(_CONFIGS.parent)  # includes are relative to it


def _files(folder):
  return sorted((_CONFIGS / folder).glob('*.flags'))


@pytest.mark.parametrize('path', _files('paper'), ids=lambda p: p.stem)
def test_paper(path):
  task, _, method = path.stem.partition('_')
  assert _resolve(_path(path)).task.task == f'paper/{task}'
  assert not method or method in locomotion.TABLE.tasks[task]


@pytest.mark.parametrize('path', _files('v5'), ids=lambda p: p.stem)
def test_v5(path):
  if path.stem in _OVERLAYS:
    hopper = _path(_CONFIGS / 'v5/hopper.flags')
    assert _resolve(hopper, _path(path)).task.task == 'Hopper-v5'
    return
  task = path.stem.removesuffix('_vine').replace('_', '') + '-v5'
  assert _resolve(_path(path)).task.task.lower() == task


@pytest.mark.parametrize('game', PAPER_GAMES)
def test_atari(game):
  methods = {path.stem for path in _files('atari')} - {'atari'}
  assert methods == set(atari.TABLE.methods)
  found = {}
  for method in methods:
    path = _path(_CONFIGS / f'atari/{method}.flags')
    found[method] = _resolve(path, f'--task=atari/{game}')
    assert found[method] == _resolve(f'--task=atari/{game}', path)
    assert found[method].task.task == f'atari/{game}'
  assert len({str(config.settings(c)) for c in found.values()}) == len(methods)
