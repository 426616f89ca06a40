"""The cross-entropy method with decreasing noise (Szita and Lorincz 2006)."""

import math
from typing import Any

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.methods import population
from trpo_tf.policies.protocols import Policy
from trpo_tf.seeding import Stream

__all__ = ['Cem']


class Cem(population.PopulationLearner):
  """Learner that fits a diagonal Gaussian to the elite of its candidates.

  The state is the Gaussian's mean and std, float64 [D] each, over the network's
  D parameters. Candidates are drawn with additional variance, which starts at
  extra_std^2 and falls linearly to zero at iteration extra_std_iterations.
  """

  def __init__(self, policy: Policy, config: ExperimentConfig):
    """Builds the learner.

    Args:
      policy: the policy whose network parameters are searched.
      config: the experiment.

    Raises:
      UserError: the elite has fewer than two candidates.
    """
    super().__init__(policy)
    self._method, self._seed = config.method, config.run.seed
    self._slots = config.sampler.num_slots
    fraction = config.method.elite_fraction
    self._num_elite = round(fraction * self._slots)
    if self._num_elite < 2:
      raise UserError(
        f'--method=cem fits a deviation to the best --elite_fraction='
        f'{fraction:g} of the candidates, {self._num_elite} of --num_slots='
        f'{self._slots}: take --num_slots={math.ceil(2 / fraction)} or more'
      )

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """Returns the Gaussian around the initial policy.

    Args:
      theta: float32 [P], the initial policy.
      rng: not used.

    Returns:
      mean and std, float64 [D].
    """
    del rng
    mean = self._policy.network_parameters(theta).astype(np.float64)
    std = np.full_like(mean, self._method.population_std)
    return {'mean': mean, 'std': std}

  def candidates(
    self, theta: np.ndarray, state: dict[str, Any], iteration: int
  ) -> np.ndarray:
    """Draws candidates from the Gaussian with its extra variance.

    Args:
      theta: float32 [P], the policy.
      state: mean and std.
      iteration: key of the random draws.

    Returns:
      float32 [S, P], the policy of each slot.
    """
    method = self._method
    remaining = max(1 - iteration / method.extra_std_iterations, 0)
    std = np.sqrt(state['std'] ** 2 + method.extra_std**2 * remaining)
    rng = seeding.generator(self._seed, Stream.POPULATION, iteration)
    noise = rng.standard_normal((self._slots, std.size))
    return self._policy.with_network(theta, state['mean'] + std * noise)

  def learn(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    scores: np.ndarray,
    iteration: int,
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Computes the elite's mean and deviation (without Bessel's correction).

    Args:
      theta: float32 [P], the policy.
      state: mean and std.
      scores: float64 [S], in units of return.
      iteration: key of the candidates' random draws.

    Returns:
      The mean float64 [D], and the state.
    """
    ranked = np.argsort(-scores, kind='stable')[: self._num_elite]
    elite = ranked[scores[ranked] > population.UNSCORED]
    drawn = self.candidates(theta, state, iteration)[elite]
    drawn = self._policy.network_parameters(drawn).astype(np.float64)
    mean = drawn.mean(axis=0)
    return mean, {'mean': mean, 'std': drawn.std(axis=0)}
