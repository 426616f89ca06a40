"""The Atari table: scores by hand, its plan and its summary."""

import dataclasses

import numpy as np
import pytest
import reproductions
from absl import flags as absl_flags

from trpo_tf import config
from trpo_tf.bin import flags
from trpo_tf.reproduction import atari, figure, markdown, plan
from trpo_tf.tasks.atari import PAPER_GAMES

_TABLE = atari.TABLE


def _parse(arguments):
  values = absl_flags.FlagValues()
  flags.define(values)
  values(['train', *arguments])
  return flags.experiment_config(values)


def _progress(batches):
  """Columns of progress.csv for lists of scores by iteration."""
  numbers = [len(scores) for scores in batches]
  return dict(
    episodes=np.cumsum(numbers).astype(float),
    return_mean=np.array([np.mean(s) if s else np.nan for s in batches]),
    return_std=np.array([np.std(s) if s else np.nan for s in batches]),
  )


def test_score_is_of_the_last_hundred_episodes():
  rng = np.random.default_rng(0)
  sizes = (0, 30, 0, 50, 40, 25, 60, 0, 120)
  batches = [list(rng.normal(i, 3, n)) for i, n in enumerate(sizes)]
  # as few whole iterations as have 100 episodes, all while they are fewer
  begins = (0, 0, 0, 0, 1, 3, 4, 4, 8)
  found = atari.score(_progress(batches), config.ExperimentConfig())
  errors = atari.score_error(_progress(batches), config.ExperimentConfig())
  assert np.isnan(found[0])
  for i in range(1, len(sizes)):
    scores = np.concatenate(batches[begins[i] : i + 1])
    assert found[i] == pytest.approx(scores.mean())
    expected = scores.std(ddof=1) / np.sqrt(scores.size)
    assert errors[i] == pytest.approx(expected)


def test_one_episode_has_no_error():
  progress = _progress([[], [3.0], [], [4.0]])
  found = atari.score_error(progress, config.ExperimentConfig())
  np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, 0.5])


@pytest.mark.parametrize('budget', _TABLE.budgets)
def test_the_flagfiles_are_there_and_agree(budget, tmp_path):
  entries = plan.make_entries(
    _TABLE,
    budget,
    dict.fromkeys(plan.select(_TABLE, (), ()), 1),
    tmp_path,
    _parse,
  )
  assert len(entries) == len(PAPER_GAMES) * len(_TABLE.methods)
  for entry in entries:
    (run,) = entry.runs('')
    settings = run.config
    assert settings.task.task == f'atari/{entry.task}'
    assert settings.sampler.sampler == (
      'vine' if entry.method == 'vine' else 'single_path'
    )
    if budget == 'short' and entry.method != 'random':
      assert settings.run.total_env_steps >= 1_000_000
      assert not settings.run.total_iterations


def test_table_3_of_the_paper(tmp_path):
  pairs = [('pong', 'single_path'), ('pong', 'vine')]
  paths, vine = (
    entry.runs('')[0].config
    for entry in plan.make_entries(
      _TABLE, 'paper', dict.fromkeys(pairs, 1), tmp_path, _parse
    )
  )
  for settings in (paths, vine):
    assert settings.run.total_iterations == 500
    assert settings.trust_region.max_kl == 0.01
    assert settings.estimator.gamma == 0.99
  assert paths.sampler.batch_steps == pytest.approx(100e3, rel=0.03)
  sampler = vine.sampler
  branches = sampler.rollout_set_size * sampler.branch_actions
  steps = sampler.batch_steps + branches * sampler.branch_length
  assert steps == pytest.approx(400e3, rel=0.03)


@pytest.mark.parametrize('budget', ['smoke', 'short', 'paper'])
@pytest.mark.parametrize('method', ['gae', 'gae84'])
def test_settings_of_single_games(budget, method, tmp_path):
  pairs = [(game, method) for game in ('breakout', 'enduro', 'pong')]
  found = [
    (
      config.atari.atari_actions,
      config.atari.stagger_steps,
      config.estimator.value_epochs,
    )
    for config in (
      entry.runs('')[0].config
      for entry in plan.make_entries(
        _TABLE, budget, dict.fromkeys(pairs, 1), tmp_path, _parse
      )
    )
  ]
  assert found == [
    ('minimal', 0, 2),
    ('joystick', 3328, 4),
    ('minimal', 0, 4),
  ]


# numbers that were read from the figure by another reader of the PDF's paths
@pytest.mark.parametrize(
  'game, method, iteration, value',
  [
    ('beam_rider', 'single_path', 250, 1122),
    ('breakout', 'vine', 400, 29.5),
    ('enduro', 'single_path', 100, 104),
    ('pong', 'vine', 100, 14.8),
    ('qbert', 'vine', 250, 4571),
    ('seaquest', 'single_path', 400, 1714),
    ('space_invaders', 'vine', 100, 430),
  ],
)
def test_reference_curves(game, method, iteration, value):
  curve = _TABLE.reference[game][method]
  x = iteration * (400_000 if method == 'vine' else 100_000)
  # thinned to every fourth iteration or so
  assert np.interp(x, curve.x, curve.y) == pytest.approx(value, rel=0.03)


def _result(game, method, score, error):
  return reproductions.result(
    game,
    method,
    [[0.0, score]],
    [1e5, 2e5],
    errors=np.array([[0.0, error]]),
    reference=_TABLE.reference[game].get(method),
    by_env_steps=True,
  )


def test_summary():
  shown = [
    _result('pong', 'random', -20.0, 0.1),
    _result('pong', 'gae', 5, 1),
    _result('qbert', 'random', 160.0, 10.0),
  ]
  lines = markdown.render(_TABLE, 'short', shown).splitlines()
  rows = {
    cells[1].strip(): [c.strip() for c in cells[2:-1]]
    for line in lines
    if len(cells := line.split('|')) == 5
  }
  assert rows['method'] == ['Pong', 'Q*bert']
  assert rows['random (paper)'] == ['-20.4', '157']
  assert rows['TRPO, vine (paper, 200M env steps)'] == ['20.9', '7732.5']
  assert rows['ours: random'] == [
    '-20.000 (-20.196 to -19.804)',
    '160.0 (140.4 to 179.6)',
  ]
  assert rows['ours less random (paper)'] == [
    '+0.4 (+0.204 to +0.596)',
    '+3 (-16.6 to +22.6)',
  ]
  assert rows['ours: value network'] == ['5.000 (3.040 to 6.960)', '-']
  assert not any(' of ' in line for line in lines if line.startswith('| '))
  drawn = figure.draw(_TABLE, shown)
  assert [axis.get_xlabel() for axis in drawn.axes] == ['env steps'] * 2


def test_a_run_that_goes_on_is_marked():
  going = dataclasses.replace(
    _result('pong', 'gae', 5, 1),
    finished=False,
    planned_env_steps=5_000_000,
  )
  text = markdown.render(_TABLE, 'short', [going])
  assert '| 2 | 200.0k of 5.0M | 5.000 (3.040 to 6.960) |' in text
  assert '| ours: value network | 5.000 (3.040 to 6.960), so far |' in text
  assert '"so far"' in text


# mean env steps of a hundred games of random play
@pytest.mark.parametrize('method', ['single_path', 'vine'])
@pytest.mark.parametrize(
  'game, length', [('beam_rider', 1444), ('enduro', 3324)]
)
def test_games_end_within_a_short_run(method, game, length, tmp_path):
  (entry,) = plan.make_entries(
    _TABLE, 'short', {(game, method): 1}, tmp_path, _parse
  )
  settings = entry.runs('')[0].config
  sampler = settings.sampler
  branches = sampler.rollout_set_size * sampler.branch_actions
  steps = sampler.batch_steps + branches * sampler.branch_length * (
    sampler.sampler == 'vine'
  )
  share = sampler.batch_steps / sampler.num_slots
  if method == 'single_path':  # whole games, whatever the share
    assert share > length / 2
  else:
    assert settings.run.total_env_steps / steps * share > 2 * length


def test_every_game_is_drawn():
  shown = [
    dataclasses.replace(_result(game, 'single_path', 1.0, 1.0))
    for game in PAPER_GAMES
  ]
  assert len(figure.draw(_TABLE, shown).axes) == 7


def test_levels_and_published_curves_are_drawn():
  level = dataclasses.replace(
    _result('pong', 'random', -20.0, 0.1),
    values=np.array([[-20.0]]),
    errors=np.array([[0.1]]),
    env_steps=np.array([[1e5]]),
    planned_iterations=1,
  )
  only, both = figure.draw(
    _TABLE,
    [
      dataclasses.replace(level, task='qbert'),
      level,
      _result('pong', 'gae', 5.0, 1.0),
    ],
  ).axes[::-1]
  heights = [tuple(line.get_ydata()) for line in both.lines]
  assert (-20, -20) in heights and (0, 5) in heights
  reference = _TABLE.reference['pong']
  for curve in reference.values():  # up to where ours ends
    at_end = np.interp(1e5, curve.x, curve.y)
    assert any(height[-1] == at_end for height in heights)
  assert both.get_ylim()[1] < 10  # what is not shown has no room either
  assert len(heights) == 2 + len(reference)
  # as far as we went; without a run of ours as far as the paper did
  assert both.get_xlim() == pytest.approx((-1.5e3, 1.015e5))
  assert only.get_xlim()[1] > 50e6
