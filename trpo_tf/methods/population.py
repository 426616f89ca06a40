"""The base of the methods that search with a population of policies."""

import abc
from typing import Any

import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.methods.learner import Update
from trpo_tf.methods.record import IterationRecord
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Policy
from trpo_tf.sampling.batch import Batch
from trpo_tf.sampling.sampler import Sampler

__all__ = ['PopulationLearner', 'UNSCORED', 'scores']

UNSCORED = -np.inf  # the score of a candidate whose every step was dropped


class PopulationLearner(abc.ABC):
  """Learner of a distribution over the network's D parameters.

  Every slot of a batch acts by the mean action of one candidate, so log_std has
  no effect. The network parameters of the policy, theta, are the mean of the
  distribution.
  """

  def __init__(self, policy: Policy):
    """Builds the learner of a policy's network."""
    self._policy = policy

  @abc.abstractmethod
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

  @abc.abstractmethod
  def candidates(
    self, theta: np.ndarray, state: dict[str, Any], iteration: int
  ) -> np.ndarray:
    """Draws the policies of an iteration; every call draws the same ones.

    Args:
      theta: float32 [P], the policy.
      state: the learner's state.
      iteration: key of the random draws.

    Returns:
      float32 [S, P], the policy of each slot.
    """

  @abc.abstractmethod
  def learn(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    scores: np.ndarray,
    iteration: int,
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Moves the distribution towards the better candidates.

    Args:
      theta: float32 [P], the policy.
      state: the learner's state.
      scores: float64 [S], in units of return: the scores of the candidates
        that `candidates` draws from the other arguments.
      iteration: key of the candidates' random draws.

    Returns:
      The new mean float64 [D], and the new state.
    """

  def sample(
    self,
    sampler: Sampler,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    iteration: int,
  ) -> Batch:
    """Collects a batch whose slot i acts by the mean action of candidate i.

    Args:
      sampler: the task's sampler.
      theta: float32 [P], the policy.
      state: the learner's state.
      normalizer: normaliser of observations, frozen for the batch.
      iteration: key of the random draws.

    Returns:
      The batch.
    """
    drawn = self.candidates(theta, state, iteration)
    return sampler.sample(drawn, normalizer, iteration, deterministic=True)

  def update(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    batch: Batch,
    iteration: int,
  ) -> Update:
    """Learns from the scores of the candidates.

    Args:
      theta: float32 [P], the policy before the update.
      state: the learner's state.
      normalizer: not used.
      batch: whole episodes; candidate i acted in slot i.
      iteration: key of the candidates' random draws.

    Returns:
      The update, with a histogram of the candidates' scores.

    Raises:
      UserError: fewer than two candidates have a score.
    """
    del normalizer
    found = scores(batch)
    mean, state = self.learn(theta, state, found, iteration)
    return Update(
      theta=self._policy.with_network(theta, mean),
      state=state,
      record=IterationRecord(step_status='accepted'),
      histograms={'scores': found[found > UNSCORED]},
    )


def scores(batch: Batch) -> np.ndarray:
  """Computes each candidate's score: the mean return of its slot's paths.

  A path that diverged counts with its return up to then. A path that was
  dropped does not count.

  Args:
    batch: whole episodes; candidate i acted in slot i.

  Returns:
    float64 [S], in units of return; UNSCORED for a slot without kept steps.

  Raises:
    UserError: fewer than two candidates have a score.
  """
  rewards = np.where(batch.kept, batch.rewards, 0).sum(1)
  paths = np.sum((batch.ends != 0) & batch.kept, axis=1)
  scored = np.any(batch.kept, axis=1)
  if scored.sum() < 2:
    raise UserError(
      f'--on_divergence=drop left {scored.sum()} of {paths.size} candidates: '
      "take --on_divergence=cut, or lower the model's time step"
    )
  return np.where(scored, rewards / np.maximum(paths, 1), UNSCORED)
