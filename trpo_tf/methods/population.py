"""What the methods that search with a population of policies share."""

import abc
from typing import Any

import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.methods.learner import RECORD, Update
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch

__all__ = ['PopulationLearner', 'UNSCORED', 'scores', 'with_network']

UNSCORED = -np.inf  # the score of a candidate that was dropped altogether


class PopulationLearner(abc.ABC):
  """Learner of a distribution over the network's D parameters.

  Every slot of a batch acts by the mean of one candidate. The policy, theta,
  is the mean of the distribution.
  """

  @abc.abstractmethod
  def candidates(
    self, theta: np.ndarray, state: dict[str, Any], iteration: int
  ) -> np.ndarray:
    """Draws the policies of an iteration, always the same.

    Args:
      theta: float32 [P], the policy.
      state: the learner's.
      iteration: key of the draws.

    Returns:
      float32 [S, P], one a slot.
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
      state: the learner's.
      scores: float64 [S], of the candidates of the other arguments.
      iteration: key of their draws.

    Returns:
      The new mean float64 [D], and the new state.
    """

  def sample(
    self,
    sampler: Any,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    iteration: int,
  ) -> Batch:
    """A batch whose slot i acts by the mean of candidate i."""
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
    """Learns from the scores of the candidates, see `scores` and `learn`."""
    del normalizer
    found = scores(batch)
    mean, state = self.learn(theta, state, found, iteration)
    return Update(
      theta=with_network(theta, mean),
      state=state,
      record=RECORD | {'step_status': 'accepted'},
      histograms={'scores': found[found > UNSCORED]},
    )


def scores(batch: Batch) -> np.ndarray:
  """What each candidate is worth: the mean return of its slot's paths.

  A path that diverged counts with what it had earned; one that was dropped
  does not count.

  Args:
    batch: of whole episodes, slot i by candidate i.

  Returns:
    float64 [S]; UNSCORED where no step is left.

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


def with_network(theta: np.ndarray, parameters: np.ndarray) -> np.ndarray:
  """Policies that differ from theta in the network alone.

  Candidates act by their mean, on which what follows the network's parameters
  (log_std) has no effect.

  Args:
    theta: float32 [P].
    parameters: [..., D], of networks.

  Returns:
    float32 [..., P].
  """
  rest = theta[parameters.shape[-1] :]
  rest = np.broadcast_to(rest, (*parameters.shape[:-1], rest.size))
  return np.concatenate([parameters, rest], axis=-1).astype(np.float32)
