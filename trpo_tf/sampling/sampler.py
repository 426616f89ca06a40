"""The interface of samplers to the learners and the training loop."""

import abc
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

import numpy as np

from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.actors import Actor
from trpo_tf.sampling.batch import Batch
from trpo_tf.tasks.actions import ActionSpace

__all__ = ['PathSampler', 'Sampler', 'check_arrays']

# cloned states of N steps, in the form of a simulator's own branches
States = TypeVar('States')


class Sampler(Protocol):
  """Collects batches of env steps of the current policy."""

  @abc.abstractmethod
  def state(self) -> dict[str, np.ndarray]:
    """Returns all that the next batch depends on, besides the arguments."""

  @abc.abstractmethod
  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from a state that `state` returned.

    Raises:
      UserError: the state does not fit the task.
      ValueError: the state has other shapes or types. In both cases the sampler
        stands where it stood, or begins with a reset.
    """

  def close(self) -> None:
    """Stops what the sampler started, such as worker processes."""
    return None

  @abc.abstractmethod
  def sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool = False,
  ) -> Batch:
    """Collects one batch.

    Args:
      theta: float32 [P], the policy; a path sampler also takes [S, P], one
        policy per slot.
      normalizer: normaliser of observations, frozen for the batch.
      iteration: key of all random draws.
      deterministic: act by the mean or the likeliest choice.

    Returns:
      The batch.

    Raises:
      UserError: the environment failed or the simulation keeps diverging.
      ValueError: the sampler does not take these arguments.
    """


def check_arrays(
  state: Mapping[str, np.ndarray],
  like: Mapping[str, np.ndarray],
  **free_axis: int,
) -> None:
  """Checks the arrays of a sampler's state.

  Args:
    state: the arrays by name, from anywhere.
    like: arrays of the right types and shapes.
    **free_axis: by name of an array, an axis that may have any length.

  Raises:
    ValueError: an array is missing, unknown or of another type or shape.
  """
  for name in sorted(state.keys() ^ like.keys()):
    raise ValueError(f'{name} is {"missing" if name in like else "not known"}')
  for name, array in like.items():
    found, shape = state[name], list(array.shape)
    if not isinstance(found, np.ndarray) or found.dtype != array.dtype:
      raise ValueError(f'{name} is no array of {array.dtype}')
    axis = free_axis.get(name)
    if axis is not None and found.ndim == array.ndim:
      shape[axis] = found.shape[axis]
    if found.shape != tuple(shape):
      raise ValueError(
        f'{name} has shape {found.shape}; this sampler needs {tuple(shape)}: '
        'the state is of another task or number of slots'
      )


class PathSampler(Sampler, Generic[States]):
  """A sampler of paths, whose states can be cloned as the roots of branches."""

  name: str  # of the task, for the beginning of error messages
  action_space: ActionSpace  # what the policy chooses from
  # Whether batches hold what the policy saw. An evaluation does not need it; a
  # sampler of games, whose frames are large, then leaves it out.
  keeps_observations = True

  @abc.abstractmethod
  def actor(self, theta: np.ndarray) -> Actor:
    """Makes the actor of the policy with parameters theta, float32 [P]."""

  def sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool = False,
  ) -> Batch:
    """Collects batch_steps env steps, or more with whole episodes.

    See Sampler; theta may be [S, P], one policy per slot.
    """
    nowhere = np.zeros((0, 2), np.int32)
    return self._sample(theta, normalizer, iteration, deterministic, nowhere)[0]

  def sample_with_states(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    rollout_set: np.ndarray,
  ) -> tuple[Batch, States]:
    """Collects the batch of `sample` and clones the states of some steps.

    Args:
      theta: float32 [P], the policy.
      normalizer: normaliser of observations, frozen for the batch.
      iteration: key of all random draws.
      rollout_set: int32 [N, 2], slots and steps.

    Returns:
      The batch, and the N states before the actions of those steps.
    """
    return self._sample(theta, normalizer, iteration, False, rollout_set)

  @abc.abstractmethod
  def _sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool,
    rollout_set: np.ndarray,
  ) -> tuple[Batch, States]:
    """Implements `sample` and `sample_with_states`."""
