"""The interface between the methods and the training loop: a learner.

A learner chooses the policies that sample a batch, and turns the batch into the
next policy. It has no state of its own: everything that it needs in the next
iteration is in a tree of arrays that the loop passes in and stores.
"""

import dataclasses
from typing import Any, Protocol

import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.methods.record import IterationRecord
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch
from trpo_tf.sampling.sampler import Sampler
from trpo_tf.sampling.summary import Summary

__all__ = ['Learner', 'OnPolicyLearner', 'Update', 'check_steps']


@dataclasses.dataclass(frozen=True)
class Update:
  """The result of an update.

  Attributes:
    theta: float32 [P], the new policy.
    state: the learner's new state, a tree of arrays.
    record: the iteration's record, with the numbers of the update.
    histograms: arrays by name, of any shape.
  """

  theta: np.ndarray
  state: dict[str, Any]
  record: IterationRecord
  histograms: dict[str, np.ndarray]


class Learner(Protocol):
  """A method, for one policy and one configuration."""

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """Returns the state before any batch.

    Args:
      theta: float32 [P], the initial policy.
      rng: source of initial values.

    Returns:
      The learner's state, a tree of arrays.
    """

  def sample(
    self,
    sampler: Sampler,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    iteration: int,
  ) -> Batch:
    """Collects the next batch with the policy or with candidates around it.

    Args:
      sampler: the task's sampler.
      theta: float32 [P], the policy.
      state: the learner's state.
      normalizer: normaliser of observations, frozen for the batch.
      iteration: key of the random draws.

    Returns:
      The batch.
    """

  def update(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    batch: Batch,
    iteration: int,
  ) -> Update:
    """Learns from a batch.

    Args:
      theta: float32 [P], the policy before the update.
      state: the learner's state.
      normalizer: normaliser of observations, as used while sampling.
      batch: what `sample` returned.
      iteration: key of the random draws.

    Returns:
      The update.
    """


class OnPolicyLearner:
  """Base of the learners that sample with the policy itself."""

  def sample(
    self,
    sampler: Sampler,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    iteration: int,
  ) -> Batch:
    """Collects a batch with the policy.

    Args:
      sampler: the task's sampler.
      theta: float32 [P], the policy.
      state: not used.
      normalizer: normaliser of observations, frozen for the batch.
      iteration: key of the random draws.

    Returns:
      The batch.
    """
    del state
    return sampler.sample(theta, normalizer, iteration)


def check_steps(summary: Summary) -> None:
  """Raises UserError if every step of a batch was dropped."""
  if not summary.kept_steps:
    raise UserError(
      f'--on_divergence=drop left no step of {summary.env_steps}: take '
      "--on_divergence=cut, or lower the model's time step"
    )
