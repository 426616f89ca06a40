"""What a sampler is to the learners and the training loop."""

from typing import Protocol

import numpy as np

from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch

__all__ = ['Sampler']


class Sampler(Protocol):
  """Collects batches of env steps of the current policy."""

  def state(self) -> dict[str, np.ndarray]:
    """Returns what the next batch depends on besides the arguments."""

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from a state that `state` returned.

    Raises:
      UserError: the state does not fit the task.
      ValueError: the state has other shapes.
    """

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
        policy a slot.
      normalizer: normaliser of observations, frozen for the batch.
      iteration: key of all random draws.
      deterministic: act by the mean or the likeliest choice.

    Returns:
      The batch.

    Raises:
      UserError: the environment failed or the simulation keeps diverging.
      ValueError: the sampler does not take these arguments.
    """
