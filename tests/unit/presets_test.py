"""Presets are the flagfiles of configs/, from any directory."""

import pathlib

import pytest

from trpo_tf import config
from trpo_tf.bin import flags
from trpo_tf.errors import UserError
from trpo_tf.experiment import presets

_ROOT = pathlib.Path(__file__).parents[2]
_FILES = sorted((_ROOT / 'configs').rglob('*.flags'))
_NAMES = [
  str(p.relative_to(_ROOT / 'configs'))[: -len('.flags')] for p in _FILES
]
# these change another preset
_OVERLAYS = 'vine_short', 'vine_no_value', 'single_path_no_value'


def test_all_files_are_presets():
  listed = presets.listed()
  assert list(listed) == _NAMES and len(listed) > 40
  for name, text in listed.items():
    assert text and len(f'{name} {text}') < 200, name


@pytest.mark.parametrize('name', _NAMES)
def test_a_preset_is_its_flagfile(name, tmp_path, monkeypatch):
  monkeypatch.chdir(_ROOT)  # flagfiles include each other from there
  base = ['v5/hopper'] if name.rpartition('/')[2] in _OVERLAYS else []
  names = [*base, name]
  # the base of the Atari presets does not set the size of a batch
  more = ['--batch_steps=6400'] if name == 'atari/atari' else []
  files = [f'--flagfile=configs/{n}.flags' for n in names]
  want = flags.parse([*files, *more])
  monkeypatch.chdir(tmp_path)
  assert flags.parse([f'--preset={",".join(names)}', *more]) == want
  assert flags.parse([*(f'--preset={n}' for n in names), *more]) == want
  assert want != config.ExperimentConfig()


@pytest.mark.parametrize(
  'arguments',
  [
    ['--preset=v5/hopper', '--gamma=0.5'],
    ['--gamma=0.5', '--preset=v5/hopper'],
    ['--gamma', '0.5', '--preset', 'v5/hopper'],
    ['-preset=v5/hopper', '-gamma=0.5'],
    ['--preset=v5/ant, v5/hopper', '--gamma=0.5'],
    ['--flagfile=own.flags'],
  ],
)
def test_other_flags_override_presets(arguments, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'own.flags').write_text('--preset=v5/hopper\n--gamma=0.5\n')
  found = flags.parse(arguments)
  assert found.estimator.gamma == 0.5
  assert found.estimator.gae_lambda == 0.97  # of the preset
  assert found.task.task == 'Hopper-v5'


@pytest.mark.parametrize('name', ['v5/hoper', '../configs/v5/hopper', 'x'])
def test_there_is_no_such_preset(name):
  with pytest.raises(UserError, match=f'--preset={name}: no such preset'):
    flags.parse([f'--preset={name}'])


def test_a_close_name_is_suggested():
  with pytest.raises(UserError, match='did you mean v5/hopper?'):
    presets.arguments('v5/hoper')
  assert presets.arguments('') == []
