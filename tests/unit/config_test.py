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
    ('max_kl', 0.0, r'\(0, 1e\+06\]'),
    ('max_kl', float('inf'), r'\(0, 1e\+06\]'),
    ('extra_std', 1e300, r'\[0, 1000\]'),
    ('total_iterations', 2**63, r'\[0, 9007199254740992\]'),
    ('num_slots', 10**400, r'\[1, 10000\]'),
    ('seed', -1, r'\[0, '),
    ('backtrack_ratio', 1.0, r'\(0, 0.99\]'),
    ('hidden_sizes', (64, 0), r'\[1, 1e\+06\]'),
    ('hidden_sizes', (64, 2**31), r'\[1, 1e\+06\]'),
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
  # Slots that do not divide a batch are a contradiction of another test.
  rest = {'num_slots': 1, 'batch_steps': 1}
  if field.name == 'num_slots':
    rest['batch_steps'] = meta['high']
  if field.name == 'stop_at_return':
    rest['eval_every_env_steps'] = 1
  if field.name == 'num_shards':
    rest = dict.fromkeys(
      ('num_slots', 'batch_steps', 'value_minibatch'), meta['high']
    )
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
  with pytest.raises(ValueError, match='--activation=elu: choose .* tanh'):
    config.from_settings({'activation': 'elu'})


def test_unknown_setting():
  with pytest.raises(ValueError, match='unknown settings: gama'):
    config.from_settings({'gama': 0.9})


def test_every_number_has_a_largest_value():
  for field in _fields():
    if isinstance(field.default, int | float | tuple):
      assert isinstance(field.default, bool) or field.metadata['high'] < 1e31


def test_networks_of_too_many_layers():
  with pytest.raises(ValueError, match='--hidden_sizes has 101 values'):
    config.from_settings({'hidden_sizes': (1,) * 101})


@pytest.mark.parametrize('baseline', ['none', 'linear', 'time'])
def test_returns_that_a_batch_cuts_need_a_value_network(baseline):
  values = {'baseline': baseline}
  with pytest.raises(ValueError, match=f'={baseline} .* --whole_episodes, or'):
    config.from_settings(values)
  config.from_settings(values | {'whole_episodes': True})


@pytest.mark.parametrize('baseline', ['none', 'value_network'])
def test_a_vine_cuts_its_branches_itself(baseline):
  config.from_settings({'baseline': baseline, 'sampler': 'vine'})


def test_contradictions_name_both_flags():
  with pytest.raises(ValueError, match='batch_steps=2000 .* --num_slots=7'):
    config.from_settings({'num_slots': 7})
