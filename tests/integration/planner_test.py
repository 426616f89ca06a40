"""The planning example of docs/branching.md does what it says."""

import pathlib
import runpy

_EXAMPLE = pathlib.Path(__file__).parents[2] / 'docs/examples/planner.py'


def test_planning_beats_random_actions():
  plan = runpy.run_path(str(_EXAMPLE))['plan']
  planned = [plan('InvertedPendulum-v5', 60, seed) for seed in range(3)]
  random = [plan('InvertedPendulum-v5', 60, seed, 1) for seed in range(3)]
  assert min(planned) == 60  # a reward of 1 for each step that it stands
  assert max(random) < 60


def test_the_example_is_short():
  assert len(_EXAMPLE.read_text().splitlines()) <= 50
