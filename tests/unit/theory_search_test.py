"""The stored problems that come closest to breaking a bound."""

import json
import pathlib

import numpy as np
import pytest

from trpo_tf.theory import bounds, search

PATH = pathlib.Path(__file__).parents[2] / 'docs/results/theory/tightest.json'
STORED = {each['bound']: each for each in json.loads(PATH.read_text())}


@pytest.mark.parametrize('bound', search.BOUNDS)
def test_stored_problem_has_the_stored_ratio(bound):
  found = search.from_dict(STORED[bound])
  for table in (found.mdp.transitions, found.mdp.start, found.old, found.other):
    assert table.min() >= 0
    np.testing.assert_allclose(table.sum(axis=-1), 1, atol=1e-12)
  ratio = search.ratio(found)
  assert ratio == pytest.approx(STORED[bound]['ratio'], rel=1e-9)
  # Above 0.9 = gamma, so that no penalty without gamma would pass, and at most
  # 1; Pinsker's 2 TV^2 <= KL keeps equation 9 below a half.
  least, most = (0.05, 0.5) if bound == 'kl' else (0.99, 1 + 1e-9)
  assert least <= ratio <= most


@pytest.mark.parametrize(
  'bound, name, factor',
  [
    ('mixture', 'tight_mixture_penalty', 1 / 0.9),  # without gamma
    ('tv', 'tight_tv_penalty', 1 / 0.9),
    ('tv', 'tight_tv_penalty', 1 / 2),  # two for four
  ],
)
def test_a_wrong_constant_fails(bound, name, factor, monkeypatch):
  true = getattr(bounds, name)
  monkeypatch.setattr(bounds, name, lambda *args: factor * true(*args))
  with pytest.raises(AssertionError):
    test_stored_problem_has_the_stored_ratio(bound)


@pytest.mark.parametrize('bound', search.BOUNDS)
def test_climbing_comes_closer_than_drawing(bound):
  rng = np.random.default_rng(0)
  drawn = search.tightest(
    bound, rng, states=2, actions=2, starts=2, iterations=0
  )
  climbed = search.tightest(
    bound, rng, states=2, actions=2, starts=2, iterations=60
  )
  assert search.ratio(drawn) < search.ratio(climbed) <= 1 + 1e-9


def test_survives_json():
  found = search.tightest(
    'tv', np.random.default_rng(0), starts=1, iterations=1
  )
  again = search.from_dict(json.loads(json.dumps(search.to_dict(found))))
  assert search.ratio(again) == search.ratio(found)
  assert again.bound == 'tv'
  np.testing.assert_array_equal(again.mdp.transitions, found.mdp.transitions)
