"""Raw observations, one or a batch of them, become what training flattens."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from trpo_tf.errors import UserError
from trpo_tf.tasks.environment import Spaces

_SPACES = {
  'vector': spaces.Box(-1, 1, (3,), np.float32),
  'matrix': spaces.Box(-1, 1, (2, 3), np.float64),
  'number': spaces.Box(-1, 1, (), np.float32),
  'discrete': spaces.Discrete(4, start=2),
  'multi_discrete': spaces.MultiDiscrete([2, 3]),
  'multi_binary': spaces.MultiBinary(3),
  'dict': spaces.Dict(
    place=spaces.Dict(x=spaces.Box(-1, 1, (2,)), cell=spaces.Discrete(3)),
    hand=spaces.Tuple([spaces.MultiBinary(2), spaces.Box(0, 9, (1, 2))]),
  ),
}


def _described(space: gymnasium.Space) -> Spaces:
  none = np.zeros(0)
  action = spaces.Discrete(2)
  return Spaces(space, spaces.flatdim(space), (2,), none, none, none, action, 1)


@pytest.mark.parametrize('name', _SPACES)
def test_one_and_several(name):
  space = _SPACES[name]
  space.seed(0)
  described = _described(space)
  samples = [space.sample() for _ in range(3)]
  want = [spaces.flatten(space, sample) for sample in samples]
  for sample, row in zip(samples, want, strict=True):
    np.testing.assert_array_equal(described.flatten(sample), row)
  batch = concatenate(space, samples, create_empty_array(space, 3))
  np.testing.assert_array_equal(described.flatten(batch), want)


@pytest.mark.parametrize(
  ('name', 'observation'),
  [
    ('vector', np.zeros((2, 2, 3))),
    ('discrete', 7),
    ('dict', {'place': 1}),
    ('dict', np.zeros(3)),
  ],
)
def test_what_does_not_fit(name, observation):
  with pytest.raises(UserError, match='the observation does not fit'):
    _described(_SPACES[name]).flatten(observation)


_ONE_OF = spaces.OneOf(
  [spaces.Box(-1, 1, (2,)), spaces.Dict(a=spaces.Discrete(3))]
)


@pytest.mark.parametrize(
  'space', [_ONE_OF, spaces.Tuple([_ONE_OF, spaces.Discrete(2)])]
)
def test_one_of_several_spaces(space):
  space.seed(0)
  described = _described(space)
  for sample in [space.sample() for _ in range(6)]:
    row = spaces.flatten(space, sample)
    np.testing.assert_array_equal(described.flatten(sample), row)
  with pytest.raises(UserError, match='the observation does not fit'):
    described.flatten(np.zeros(2))
