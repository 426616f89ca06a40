"""Flags say what the dataclasses say, and mistakes end in one clear line."""

import dataclasses
import errno
import json
import os
import subprocess
import sys

import hypothesis
import pytest
from absl import flags as absl_flags
from hypothesis import strategies as st

from trpo_tf import config, errors
from trpo_tf.bin import flags
from trpo_tf.experiment import flagfiles

_FIELDS = {
  field.name: field
  for group in dataclasses.fields(config.ExperimentConfig)
  for field in dataclasses.fields(group.default_factory)
}


def _parsed(*arguments):
  values = absl_flags.FlagValues()
  flags.define(values)
  rest = values(['program', *arguments])
  assert rest == ['program']
  return values


def test_flag_defaults_are_the_dataclass_defaults():
  values = _parsed()
  assert set(values) == set(_FIELDS)
  for name, field in _FIELDS.items():
    assert values[name].default == field.default
    assert type(values[name].value) is type(field.default)
    assert field.metadata['help'] in values[name].help
  assert flags.experiment_config(values) == config.ExperimentConfig()


def test_help_says_range_and_choices():
  values = _parsed()
  assert '[more than 0, at most 0.99]' in values['backtrack_ratio'].help
  assert '[at least 0, at most 2147483647]' in values['seed'].help
  assert '<raw|control>' in values['action_range'].help


@pytest.mark.parametrize(
  ('argument', 'name', 'value'),
  [
    ('--hidden_sizes=64,32', 'hidden_sizes', (64, 32)),
    ('--hidden_sizes=', 'hidden_sizes', ()),
    ('--total_env_steps=2_000_000', 'total_env_steps', 2_000_000),
    ('--total_env_steps=2e6', 'total_env_steps', 2_000_000),
    ('--max_kl=1', 'max_kl', 1.0),
    ('--notensorboard', 'tensorboard', False),
    ('--whole_episodes', 'whole_episodes', True),
    ('--task=my.py:Task', 'task', 'my.py:Task'),
  ],
)
def test_parsing(argument, name, value):
  parsed = flags.experiment_config(_parsed(argument))
  assert config.settings(parsed)[name] == value
  assert type(config.settings(parsed)[name]) is type(value)


def _values(field):
  """Draws values in the range of a setting."""
  meta, default = field.metadata, field.default
  if meta['choices']:
    return st.sampled_from(meta['choices'])
  if isinstance(default, bool):
    return st.booleans()
  if field.name == 'env_kwargs':
    values = st.none() | st.integers() | st.text()
    return st.dictionaries(st.text(), values).map(json.dumps)
  if isinstance(default, str):
    lines = st.text(st.characters(codec='utf-8'))
    return lines.filter(
      lambda s: len(f'x{s}x'.splitlines()) == 1 and s == s.rstrip()
    )
  low = meta['low']
  high = min(meta['high'], 2**60)
  if isinstance(default, tuple):
    return st.lists(st.integers(low, high), max_size=3).map(tuple)
  if isinstance(default, int):
    return st.integers(low, high)
  return st.floats(low, high, exclude_min=meta['open_low'])


def _consistent(values):
  """The settings with those that contradict others made to agree."""
  share = values['batch_steps'] // values['num_slots']
  batch_steps = max(1, share) * values['num_slots']
  values = values | dict(batch_steps=batch_steps, num_shards=1)
  if not values['eval_every_env_steps']:
    values = values | dict(stop_at_return=1e30)
  if values['method'] in config.POPULATION_METHODS:
    values = values | dict(init_from='')
  if values['method'] in (*config.POPULATION_METHODS, 'rwr'):
    values = values | dict(sampler='single_path', whole_episodes=True)
    values = values | dict(entropy_coefficient=0.0)
  if values['sampler'] == 'single_path':
    values = values | dict(amortized_advantage=False)
    whole = values['whole_episodes'] or values['baseline'] != 'value_network'
    return values | dict(whole_episodes=whole)
  return values | _consistent_vine(values, batch_steps)


def _consistent_vine(values, batch_steps):
  proposal, objective = values['branch_proposal'], values['vine_objective']
  actions, baseline = values['branch_actions'], values['baseline']
  if proposal == 'all':
    objective = 'all_actions'
  elif objective == 'all_actions':
    objective = 'mean_baseline'
  if objective == 'every_step' and proposal == 'uniform':
    proposal = 'policy'
  if proposal == 'antithetic':
    actions += actions % 2
    if objective != 'every_step':
      objective = 'importance_sampled'
  amortized = values['amortized_advantage'] and objective == 'every_step'
  if amortized or objective in ('self_normalized', 'mean_baseline'):
    actions = max(actions, 2)
  weighted = values['occupancy_weights']
  if objective == 'every_step':
    baseline = 'value_network'
    weighted &= not values['life_loss_ends_return']
  elif baseline not in ('none', 'value_network'):
    baseline = 'none'
  return dict(
    whole_episodes=False,
    baseline=baseline,
    rollout_set_size=min(values['rollout_set_size'], batch_steps),
    branch_actions=actions,
    branch_proposal=proposal,
    vine_objective=objective,
    amortized_advantage=amortized,
    occupancy_weights=weighted,
  )


_SETTINGS = st.fixed_dictionaries(
  {name: _values(field) for name, field in _FIELDS.items()}
).map(_consistent)


@hypothesis.given(values=_SETTINGS)
@hypothesis.settings(deadline=None, max_examples=60, derandomize=True)
def test_flags_txt_parses_to_the_same_settings(tmp_path_factory, values):
  settings = config.from_settings(values)
  path = tmp_path_factory.mktemp('run') / 'flags.txt'
  path.write_text(flagfiles.flagfile(settings), encoding='utf-8')
  values = absl_flags.FlagValues()
  absl_flags.DEFINE_string('flagfile', '', '', flag_values=values)
  flags.define(values)
  values(['program', f'--flagfile={path}'])
  assert flags.experiment_config(values) == settings


@pytest.mark.parametrize('task', ['a\nb', 'a ', 'a\r'])
def test_what_a_flagfile_cannot_hold_is_refused(task):
  settings = config.from_settings({'task': task})
  with pytest.raises(errors.UserError, match='--task='):
    flagfiles.flagfile(settings)


_PROGRAM = """
import errno, sys
from absl import flags as absl_flags
from trpo_tf import errors
from trpo_tf.bin import flags
flags.define()
absl_flags.DEFINE_string('raises', '', 'what to raise')

def main(arguments):
  flags.experiment_config()
  raised = absl_flags.FLAGS.raises
  if raised:
    raise eval(raised)
  print('ran', *arguments)

if __name__ == '__main__':
  flags.run(main, takes_arguments='{takes}' == 'yes')
"""


def _python(*arguments):
  root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
  return subprocess.run(
    [sys.executable, *arguments],
    env=os.environ | {'PYTHONPATH': root},
    capture_output=True,
    text=True,
  )


def _run(tmp_path, *arguments, takes='no'):
  program = tmp_path / 'program.py'
  program.write_text(_PROGRAM.replace('{takes}', takes))
  return _python(program, *arguments)


@pytest.mark.parametrize(
  ('arguments', 'code', 'says'),
  [
    (
      ['--max_kll=1'],
      2,
      "Unknown command line flag 'max_kll'. Did you mean: max_kl",
    ),
    (['--gamma=abc'], 2, 'flag --gamma=abc: could not convert'),
    (['--seed=1.5'], 2, 'write a whole number, as in 1000000 or 1e6'),
    (['--seed=x'], 2, 'flag --seed=x: write a whole number'),
    (['--seed=inf'], 2, 'write a whole number'),
    (['--tensorboard=no'], 2, 'flag --tensorboard=no: write true or false'),
    (['--gamma=2'], 2, '--gamma=2.0 is outside [0, 1]'),
    (['--hidden_sizes=64x'], 2, 'write integers with commas, as in 64,64'),
    (['--activation=elu'], 2, 'should be one of <tanh|softplus|relu>'),
    (['--baseline=linear'], 2, 'add --whole_episodes'),
    (
      ['--method=rwr', '--whole_episodes', '--entropy_coefficient=0.1'],
      2,
      'leave it out',
    ),
    (['--flagfile=missing.flags'], 2, "No such file or directory: 'missing"),
    (['hopper'], 2, "'hopper' is not a flag"),
    (['--raises=errors.UserError("try this")'], 2, 'program: try this'),
    (
      [f'--raises=OSError({errno.ENOSPC}, "No space left on device", "f.csv")'],
      2,
      'f.csv: No space left on device. Free some space',
    ),
    (['--raises=KeyboardInterrupt()'], 130, 'interrupted'),
  ],
)
def test_mistakes_end_in_one_line(tmp_path, arguments, code, says):
  result = _run(tmp_path, *arguments)
  assert result.returncode == code
  assert result.stdout == ''
  assert says in result.stderr
  assert result.stderr.count('\n') == 1


def test_a_traceback_on_demand_and_for_bugs(tmp_path):
  result = _run(tmp_path, '--gamma=2', '--verbosity=1')
  assert result.returncode == 2
  assert 'Traceback' in result.stderr
  result = _run(tmp_path, '--raises=ValueError("a bug")')
  assert result.returncode == 1
  assert 'Traceback' in result.stderr


def test_arguments(tmp_path):
  result = _run(tmp_path, 'a', '--seed=2', 'b', takes='yes')
  assert (result.returncode, result.stdout) == (0, 'ran a b\n')


def test_a_shell_leaves_some_tildes(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', '/my home')
  raises = '--raises=errors.UserError(absl_flags.FLAGS.run_dir)'
  result = _run(tmp_path, '--run_dir=~/runs/~a', raises)
  assert result.stderr == 'program: /my home/runs/~a\n'
  result = _run(tmp_path, '~/runs/*', 'b~', takes='yes')
  assert result.stdout == 'ran /my home/runs/* b~\n'


def test_messages_of_libraries_need_a_higher_verbosity(tmp_path):
  info = '--raises=__import__("absl.logging").logging.info("of a library")'
  assert 'of a library' not in _run(tmp_path, info).stderr
  assert 'of a library' in _run(tmp_path, info, '--verbosity=0').stderr


def test_help_lists_the_settings(tmp_path):
  result = _run(tmp_path, '--help')
  assert '--max_kl: bound delta on the mean KL' in result.stdout
  assert "(default: '0.01')" in result.stdout


_IMPORT = """
import sys
from trpo_tf.bin import flags
flags.import_tensorflow()
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)  # still possible
print((tf.constant(1.0) + 1).numpy())
print('our own', file=sys.stderr)
"""


@pytest.mark.slow
def test_tensorflow_is_imported_in_silence():
  result = _python('-c', _IMPORT)
  assert (result.stdout, result.stderr) == ('2.0\n', 'our own\n')


def test_a_failing_import_is_not_silent(tmp_path):
  (tmp_path / 'tensorflow.py').write_text(
    'import os; os.write(2, b"?" * 3); raise ImportError("no library")'
  )
  path = f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n'
  result = _python('-c', path + _IMPORT)
  assert result.returncode == 1
  assert '???' in result.stderr
  assert 'ImportError: no library' in result.stderr


def test_expand_takes_a_directory_by_its_name_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('a[1]', 'a1', 'b[1]'):
    (tmp_path / name).mkdir()
  assert flags.expand(['a[1]', 'b[1]', 'a?']) == ['a[1]', 'b[1]', 'a1']
