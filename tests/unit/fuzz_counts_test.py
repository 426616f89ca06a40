"""What the tests with the marker fuzz draw by, and what they count."""

import itertools
import json
import time

import children
import fuzz_counts


def test_no_two_sessions_draw_the_same(tmp_path):
  drawn = [
    set(fuzz_counts.Fuzz(seed, None).seeds(part, 1000))
    for seed in (0, 1, 12)
    for part in range(10)
  ]
  assert all(len(seeds) == 1000 and min(seeds) > 11_000 for seeds in drawn)
  for one, two in itertools.combinations(drawn, 2):
    assert not one & two


def test_calls_that_are_repeated_count_once(tmp_path):
  path = tmp_path / 'found.json'
  fuzz = fuzz_counts.Fuzz(3, path)
  for draw, calls in ('a', 5), ('b', 6), ('a', 7):
    fuzz.count('calls', draw, calls, refused=4, findings=0)
  fuzz.count('others', 'a', 1, refused=0, findings=1)
  found = json.loads(path.read_text())
  assert {draw: one['calls'] for draw, one in found['calls'].items()} == {
    'a': 7,
    'b': 6,
  }
  assert found['others'] == {'a': dict(calls=1, refused=0, findings=1)}


def test_an_attack_without_an_end_is_found(monkeypatch):
  monkeypatch.setattr(children, '_PATIENCE', 0.5)

  def attack(seed):
    if seed == 1:
      time.sleep(100)
    return True

  assert children.attack(lambda: attack, range(3)) == ([(1, -9)], 2)
