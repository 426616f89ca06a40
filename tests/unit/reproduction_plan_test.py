"""Which runs make Figure 4, and which curves they are held against."""

import dataclasses
import pathlib

import numpy as np
import pytest
import reproductions
from absl import flags as absl_flags

from trpo_tf import errors
from trpo_tf.bin import flags
from trpo_tf.experiment import backend
from trpo_tf.reproduction import locomotion, plan
from trpo_tf.tasks import registry

_TABLE = locomotion.TABLE


@pytest.fixture
def table(tmp_path):
  return reproductions.table(tmp_path / 'flagfiles')


def test_pairs_are_those_of_figure_4():
  pairs = plan.select(_TABLE, (), ())
  assert len(pairs) == 9 + 7 + 5 + 5
  curves = {(t, m) for t, ms in _TABLE.reference.items() for m in ms}
  assert set(pairs) - curves == {
    ('walker', 'natural_gradient'),
    ('cartpole', 'rwr_exponential'),
  }
  assert curves <= set(pairs)


def test_select_keeps_the_order_of_the_table():
  assert plan.select(_TABLE, ['hopper', 'swimmer'], ['rwr', 'vine']) == [
    ('swimmer', 'vine'),
    ('swimmer', 'rwr'),
    ('hopper', 'vine'),
    ('hopper', 'rwr'),
  ]
  only = plan.select(_TABLE, (), ['cma'])
  assert only == [('cartpole', 'cma'), ('swimmer', 'cma')]


@pytest.mark.parametrize(
  'tasks, methods, message',
  [
    (['ant'], (), '--tasks=ant: choose from cartpole, swimmer, hopper, walker'),
    ((), ['trpo'], '--methods=trpo: choose from vine, single_path, '),
    (
      ['hopper'],
      ['cma'],
      '--tasks=hopper: the covariance of thousands .*; it '
      'goes with cartpole, swimmer, and hopper has vine, single_path',
    ),
    (
      ['swimmer'],
      ['max_kl'],
      'on the cart-pole alone; train it with --method=',
    ),
    (['walker'], ['empirical_fisher'], 'does not have it on hopper and walker'),
  ],
)
def test_select_refuses(tasks, methods, message):
  with pytest.raises(errors.UserError, match=message):
    plan.select(_TABLE, tasks, methods)


def test_every_method_that_a_task_lacks_has_a_reason():
  lacking = {
    m for ms in _TABLE.tasks.values() for m in _TABLE.methods if m not in ms
  }
  assert lacking == set(_TABLE.absent)


def test_runs_of_a_method(table):
  entry = reproductions.entries(table, pathlib.Path('out'))[0]
  assert not entry.sweep
  assert entry.runs('') == entry.runs(None) == entry.variants['']
  first, second = entry.runs('')
  assert (first.seed, second.seed) == (0, 1)
  assert second.directory == pathlib.Path('out/cartpole/vine/1')
  assert second.flags == (
    f'--flagfile={table.flagfiles}/cartpole_vine.flags',
    '--total_iterations=20',
    '--notensorboard',
    '--seed=1',
    '--run_dir=out/cartpole/vine/1',
  )
  assert second.config.run.seed == 1
  assert second.config.run.total_iterations == 20


def test_runs_of_a_sweep(table):
  entry = reproductions.entries(table, pathlib.Path('out'), seeds=3)[1]
  assert entry.swept == 'lagrange_multiplier'
  names = ['/'.join(run.parts) for run in entry.sweep]
  assert names == [f'cartpole/natural_gradient/{v}/0' for v in ('3', '0.1')]
  chosen = entry.runs('0.1')
  assert [(r.variant, r.seed) for r in chosen] == [
    ('3', 0),
    ('0.1', 0),
    ('0.1', 1),
    ('0.1', 2),
  ]
  assert len(entry.runs(None)) == len(chosen)
  assert [r.config.method.lagrange_multiplier for r in chosen] == [
    3,
    0.1,
    0.1,
    0.1,
  ]
  assert chosen[1].directory == pathlib.Path(
    'out/cartpole/natural_gradient/0.1/0'
  )


def test_directories_are_different(table):
  runs = [
    run
    for entry in reproductions.entries(table, pathlib.Path('out'))
    for runs in entry.variants.values()
    for run in runs
  ]
  assert len({run.directory for run in runs}) == len(runs) == 14


def test_a_report_plans_the_seeds_of_each_method(tmp_path):
  """Those that are there, and those of the command."""
  for method, seeds in (('vine', 3), ('single_path', 1)):
    for seed in range(seeds):
      run = tmp_path / 'cartpole' / method / str(seed)
      run.mkdir(parents=True)
      (run / 'run.json').touch()
  now = {('cartpole', 'single_path'): 2, ('cartpole', 'cem'): 9}
  assert plan.seeds_there(_TABLE, now, tmp_path) == {
    ('cartpole', 'vine'): 3,
    ('cartpole', 'single_path'): 2,
  }


def test_flagfiles_must_be_there(table):
  elsewhere = dataclasses.replace(table, flagfiles='not/here')
  with pytest.raises(errors.UserError, match='start from the root of the repo'):
    reproductions.entries(elsewhere, pathlib.Path('out'))


def _parse(arguments):
  values = absl_flags.FlagValues()
  flags.define(values)
  values(['train', *arguments])
  return flags.experiment_config(values)


@pytest.mark.parametrize('budget', _TABLE.budgets)
def test_flagfiles_and_overrides_go_together(budget, tmp_path):
  """What parses is consistent: every flagfile, with what the budget changes."""
  pairs = plan.select(_TABLE, (), ())
  entries = plan.make_entries(
    _TABLE, budget, dict.fromkeys(pairs, 1), tmp_path, _parse
  )
  assert len(entries) == len(pairs)
  for entry in entries:
    for run in entry.runs(None):
      settings = run.config
      assert settings.task.task == f'paper/{entry.task}'
      assert settings.sampler.sampler == (
        'vine' if entry.method == 'vine' else 'single_path'
      )
      names = {'vine': 'trpo', 'single_path': 'trpo', 'rwr_exponential': 'rwr'}
      method = names.get(entry.method, entry.method)
      assert settings.method.method == method
      if budget == 'paper':
        iterations = 50 if entry.task in ('cartpole', 'swimmer') else 200
        assert settings.run.total_iterations == iterations


# Table 2 of the paper: hidden units, env steps of an iteration, and of the vine
# the length and number of its branches
@pytest.mark.parametrize(
  'task, units, steps, length, branches',
  [
    ('swimmer', (30,), 50e3, 50, 4 * 500),
    ('hopper', (50, 50), 1e6, 100, 4 * 2500),
    ('walker', (50, 50), 1e6, 100, 4 * 2500),
  ],
)
def test_table_2(task, units, steps, length, branches, tmp_path):
  pairs = [(task, 'vine'), (task, 'single_path')]
  vine, paths = (
    entry.runs('')[0].config
    for entry in plan.make_entries(
      _TABLE, 'paper', dict.fromkeys(pairs, 1), tmp_path, _parse
    )
  )
  for settings in (vine, paths):
    assert settings.policy.hidden_sizes == units
    assert settings.trust_region.max_kl == 0.01
    assert settings.estimator.gamma == 0.99
  sampler = vine.sampler
  assert sampler.branch_length == length
  assert sampler.rollout_set_size * sampler.branch_actions == branches
  assert sampler.batch_steps == 16 * 1000
  if task != 'swimmer':  # whose trunks and branches are more than its 50K
    assert sampler.batch_steps + branches * length == pytest.approx(
      steps, rel=0.02
    )
  native = registry.find_task(paths.task.task)
  horizon = paths.task.time_limit or native.time_limit
  assert paths.sampler.num_slots * horizon == steps


def test_swimmer_has_as_many_parameters_as_in_table_2(tmp_path):
  (entry,) = plan.make_entries(
    _TABLE, 'paper', {('swimmer', 'vine'): 1}, tmp_path, _parse
  )
  policy = backend.resolve(entry.runs('')[0].config).policy()
  assert policy.num_parameters == 364


# (iteration, value) as read from the figure by another reader of the PDF's
# paths, to the three digits that were noted
@pytest.mark.parametrize(
  'task, method, points',
  [
    ('cartpole', 'vine', [(5, 0.247), (20, 8.467), (49, 9.935)]),
    ('cartpole', 'rwr', [(10, 1.031), (40, 3.513), (49, 4.341)]),
    ('swimmer', 'cem', [(5, -0.079), (30, 0.051), (49, 0.126)]),
    ('hopper', 'single_path', [(25, 0.476), (100, 1.893), (199, 2.157)]),
    ('walker', 'vine', [(50, 1.174), (150, 2.773), (199, 2.941)]),
  ],
)
def test_reference_curves(task, method, points):
  curve = _TABLE.reference[task][method]
  for x, y in points:
    assert np.interp(x, curve.x, curve.y) == pytest.approx(y, abs=6e-4)


def test_reference_curves_begin_at_zero_and_have_error_bars():
  for curves in _TABLE.reference.values():
    for curve in curves.values():
      assert curve.x[0] == 0 and (np.diff(curve.x) > 0).all()
      assert curve.x[-1] in (49, 199)
      assert (curve.errors[:, 0] % 10 == 0).all()
      assert (curve.errors[:, 1] <= curve.errors[:, 2]).all()
