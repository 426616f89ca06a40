"""The cross-entropy method with decreasing noise (Szita and Lorincz 2006)."""

import math
from typing import Any

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.methods import population
from trpo_tf.seeding import Stream

__all__ = ['Cem']


class Cem(population.PopulationLearner):
  """A diagonal Gaussian over the network's D parameters, fitted to the elite.

  The state is its mean and std, float64 [D] each. Candidates are drawn with
  more variance than it has: extra_std^2 at first, falling linearly to nothing
  at iteration extra_std_iterations.
  """

  def __init__(self, policy: Any, config: ExperimentConfig):
    """Args: the policy whose network is searched for; the experiment.

    Raises:
      UserError: an elite of fewer than two.
    """
    self._method, self._seed = config.method, config.run.seed
    self._num_parameters = policy.network.num_parameters
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
    """The Gaussian around the initial policy."""
    del rng
    mean = theta[: self._num_parameters].astype(np.float64)
    std = np.full_like(mean, self._method.population_std)
    return {'mean': mean, 'std': std}

  def candidates(self, theta, state, iteration):
    """As PopulationLearner."""
    method = self._method
    remaining = max(1 - iteration / method.extra_std_iterations, 0)
    std = np.sqrt(state['std'] ** 2 + method.extra_std**2 * remaining)
    rng = seeding.generator(self._seed, Stream.POPULATION, iteration)
    noise = rng.standard_normal((self._slots, std.size))
    return population.with_network(theta, state['mean'] + std * noise)

  def learn(self, theta, state, scores, iteration):
    """The elite's mean and deviation (without Bessel's correction)."""
    ranked = np.argsort(-scores, kind='stable')[: self._num_elite]
    elite = ranked[scores[ranked] > population.UNSCORED]
    drawn = self.candidates(theta, state, iteration)[elite]
    drawn = drawn[:, : self._num_parameters].astype(np.float64)
    mean = drawn.mean(axis=0)
    return mean, {'mean': mean, 'std': drawn.std(axis=0)}
