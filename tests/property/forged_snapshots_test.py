"""Forged snapshots are refused or restored, but never crash the process.

Forgeries restore and step in child processes, so that a crash is counted. A
state may be absurd, and steps from it may raise; memory is what must hold.
"""

import dataclasses
import os
import random

import ale_py
import children
import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers

from trpo_tf.cloning import packing
from trpo_tf.cloning.cloner import cloner
from trpo_tf.errors import UserError

gymnasium.register_envs(ale_py)
_EXTREMES = (-1, 0, 625, 65535, 10**9, 2**31 - 1, 2**63 - 1, -(2**31))
_WEIRD = (None, 'x', b'', [], (), {}, 1.5, float('nan'), np.zeros((3, 0)))


def _stacked():
  env = gymnasium.make('ALE/Seaquest-v5', obs_type='grayscale')
  return wrappers.FrameStackObservation(env, 4)


_MAKERS = {
  'Humanoid-v5': lambda: gymnasium.make('Humanoid-v5'),
  'Pusher-v5': lambda: gymnasium.make('Pusher-v5'),
  'Taxi-v4': lambda: gymnasium.make('Taxi-v4'),
  'ALE/Jamesbond-v5': lambda: gymnasium.make('ALE/Jamesbond-v5'),
  'ALE/Pitfall2-v5': lambda: gymnasium.make('ALE/Pitfall2-v5'),
  'ALE/Darkchambers-v5': lambda: gymnasium.make('ALE/Darkchambers-v5'),
  'ALE/Asterix-v5': lambda: gymnasium.make('ALE/Asterix-v5'),
  'stacked Seaquest': _stacked,
}


def _moved(name):
  env = cloner(_MAKERS[name](), name)
  env.reset(seed=1)
  env.action_space.seed(1)
  for _ in range(20):
    env.step(env.action_space.sample())
  return env


def _forge_bytes(data, rng):
  """Changes bytes of a part whose size stays, or its size."""
  data = bytearray(data)
  if not data:
    return b'x'
  if rng.random() < 0.2:
    return bytes(data[: rng.randrange(len(data))]) + rng.randbytes(
      rng.choice((0, 1, 100))
    )
  at = rng.randrange(len(data))
  if rng.random() < 0.5:  # behind the words of a generator, where chips lie
    at = min(len(data) - 1, rng.choice((6700, 7400, 7600)) + rng.randrange(300))
  size = rng.choice((1, 4, 8))
  value = rng.choice((*_EXTREMES, rng.getrandbits(64))) % 2 ** (8 * size)
  data[at : at + size] = value.to_bytes(size, 'little')
  return bytes(data)


def _forge_value(value, rng):
  """Changes one place of a plain value, or the whole of it."""
  if rng.random() < 0.1:
    return rng.choice((*_WEIRD, *_EXTREMES))
  if isinstance(value, dict) and value:
    key = rng.choice([*value])
    return value | {key: _forge_value(value[key], rng)}
  if type(value) in (list, tuple) and value:
    at = rng.randrange(len(value))
    changed = [*value]
    changed[at] = _forge_value(value[at], rng)
    return type(value)(changed)
  if isinstance(value, bytes):
    return _forge_bytes(value, rng)
  if isinstance(value, np.ndarray) and value.size:
    form = rng.randrange(3)
    if form == 0:
      return value.ravel()[: rng.randrange(value.size)]
    if form == 1:
      return value.astype(rng.choice(('i1', 'f8', 'c16')))
    value.reshape(-1)[rng.randrange(value.size)] = rng.choice((0, 1, 127))
    return value
  return rng.choice((*_EXTREMES, *_WEIRD))


def _forge(data, rng):
  if rng.random() < 0.3:
    return _forge_bytes(data, rng)
  return packing.pack(_forge_value(packing.unpack(data), rng))


def _try(env, data, rng):
  """Returns whether the forgery was refused."""
  snapshot = dataclasses.replace(env.snapshot(), data=data)
  try:
    env.restore(snapshot)
  except UserError:
    env.reset()
    return True
  try:
    for _ in range(3):
      env.step(env.action_space.sample())
    env.snapshot()
  except Exception:  # an absurd state, in Python
    pass
  return False


def attacks(name, seeds):
  """Returns the seeds that killed a child, and the number of refusals."""

  def prepare():
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    env = _moved(name)
    good = env.snapshot()

    def attack(seed):
      rng = random.Random(seed)
      refused = _try(env, _forge(good.data, rng), rng)
      env.restore(good)  # as if nothing had been
      return refused

    return attack

  return children.attack(prepare, seeds)


@pytest.mark.slow
@pytest.mark.parametrize('name', _MAKERS)
def test_forgeries_do_not_crash(name):
  killers, refused = attacks(name, range(60))
  assert not killers and refused > 10


@pytest.mark.fuzz
@pytest.mark.parametrize('name', _MAKERS)
def test_many_forgeries_do_not_crash(name, fuzz):
  seeds = fuzz.seeds(0, 1500)
  killers, refused = attacks(name, seeds)
  fuzz.count(
    'forged snapshots',
    f'{name}, {seeds[0]} to {seeds[-1]}',
    len(seeds),
    refused,
    len(killers),
  )
  assert not killers
