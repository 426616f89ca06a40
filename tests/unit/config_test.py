"""Settings refuse what is out of range or contradictory, in one line."""

import dataclasses

import pytest

from trpo_tf import config


def _fields():
  return [
    field
    for group in dataclasses.fields(config.ExperimentConfig)
    for field in dataclasses.fields(group.default_factory)
  ]


def test_names_are_unique_and_explained():
  names = [field.name for field in _fields()]
  assert len(set(names)) == len(names)
  assert all(field.metadata['help'] for field in _fields())


def test_settings_round_trip():
  changed = config.ExperimentConfig(
    run=config.RunConfig(seed=7),
    policy=config.PolicyConfig(hidden_sizes=()),
  )
  flat = config.settings(changed)
  assert (flat['seed'], flat['hidden_sizes'], flat['gamma']) == (7, (), 0.99)
  assert config.from_settings(flat) == changed
  assert config.from_settings({}) == config.ExperimentConfig()


@pytest.mark.parametrize(
  ('name', 'value', 'range_'),
  [
    ('gamma', 1.5, r'\[0, 1\]'),
    ('gamma', float('nan'), r'\[0, 1\]'),
    ('max_kl', 0.0, r'\(0, inf\]'),
    ('max_kl', float('inf'), r'\(0, inf\]'),
    ('seed', -1, r'\[0, '),
    ('backtrack_ratio', 1.0, r'\(0, 0.99\]'),
    ('hidden_sizes', (64, 0), r'\[1, inf\]'),
  ],
)
def test_range(name, value, range_):
  with pytest.raises(ValueError, match=rf'^--{name}=.* outside {range_}'):
    config.from_settings({name: value})


@pytest.mark.parametrize(
  'field',
  [f for f in _fields() if not f.metadata['choices']],
  ids=lambda field: field.name,
)
def test_ends_of_the_range_are_allowed_unless_open(field):
  if isinstance(field.default, bool | str):
    return
  meta, kind = field.metadata, type(field.default)
  # 20 slots divide no small batch; that contradiction is another test's.
  rest = {'num_slots': 1, 'batch_steps': 1}
  for end, allowed in (('low', not meta['open_low']), ('high', True)):
    if abs(meta[end]) == float('inf'):
      continue
    value = (meta[end],) if kind is tuple else kind(meta[end])
    if allowed:
      flat = config.settings(config.from_settings(rest | {field.name: value}))
      assert flat[field.name] == value
    else:
      with pytest.raises(ValueError, match=field.name):
        config.from_settings(rest | {field.name: value})


def test_choice():
  with pytest.raises(ValueError, match='--activation=relu: choose .* tanh'):
    config.from_settings({'activation': 'relu'})


def test_unknown_setting():
  with pytest.raises(ValueError, match='unknown settings: gama'):
    config.from_settings({'gama': 0.9})


def test_contradictions_name_both_flags():
  with pytest.raises(ValueError, match='baseline=time .* --whole_episodes'):
    config.from_settings({'baseline': 'time'})
  config.from_settings({'baseline': 'time', 'whole_episodes': True})
  with pytest.raises(ValueError, match='batch_steps=2000 .* --num_slots=7'):
    config.from_settings({'num_slots': 7})
