"""CMA-ES (Hansen and Ostermeier 2001), by the library `cma`."""

from typing import Any

import cma
import numpy as np

from trpo_tf import blas, seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.methods import population
from trpo_tf.policies.protocols import Policy
from trpo_tf.seeding import Stream

__all__ = ['Cma', 'MAX_PARAMETERS']

# The covariance is a D x D matrix whose eigendecomposition takes O(D^3): it
# takes seconds at this size, and no population of a batch's size could estimate
# a larger matrix.
MAX_PARAMETERS = 2000

# Half of the candidates are parents, and recombination needs at least two.
_MIN_POPULATION = 4


class Cma(population.PopulationLearner):
  """Learner of a Gaussian with full covariance over the network's D parameters.

  The state holds the point where the search began, origin float64 [D], and the
  scores of all candidates of all iterations, scores float64 [iterations, S].
  When a run is resumed, the library's search is repeated from these. This keeps
  checkpoints small and free of the library's own pickles. Between consecutive
  iterations the library's search is kept and continued.
  """

  def __init__(self, policy: Policy, config: ExperimentConfig):
    """Builds the learner.

    Args:
      policy: the policy whose network parameters are searched.
      config: the experiment.

    Raises:
      UserError: the population is too small or the network too large.
    """
    slots, size = config.sampler.num_slots, policy.network.num_parameters
    if slots < _MIN_POPULATION:
      raise UserError(
        f'--method=cma needs {_MIN_POPULATION} candidates or more, one per '
        f'slot: raise --num_slots={slots}'
      )
    if size > MAX_PARAMETERS:
      raise UserError(
        f'--method=cma adapts a {size} x {size} covariance of the parameters; '
        f'it supports at most {MAX_PARAMETERS} parameters: take smaller '
        '--hidden_sizes, or --method=cem or rwr'
      )
    super().__init__(policy)
    self._config = config
    self._search: _Search | None = None

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """Returns a search that begins at the initial policy.

    Args:
      theta: float32 [P], the initial policy.
      rng: not used.

    Returns:
      The origin and empty scores.
    """
    del rng
    origin = self._policy.network_parameters(theta).astype(np.float64)
    return {
      'origin': origin,
      'scores': np.zeros((0, self._config.sampler.num_slots)),
    }

  def candidates(
    self, theta: np.ndarray, state: dict[str, Any], iteration: int
  ) -> np.ndarray:
    """Returns the candidates that the library draws in the given state.

    Args:
      theta: float32 [P], the policy.
      state: origin and scores.
      iteration: not used; the number of scores is the key of the draws.

    Returns:
      float32 [S, P], the policy of each slot.

    Raises:
      UserError: the search, repeated from a checkpoint, did not reproduce the
        policy.
    """
    del iteration
    drawn = np.stack(self._at(theta, state).drawn)
    return self._policy.with_network(theta, drawn)

  def learn(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    scores: np.ndarray,
    iteration: int,
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Adapts mean, step size and covariance to the ranks of the scores.

    Args:
      theta: float32 [P], the policy.
      state: origin and scores so far.
      scores: float64 [S], in units of return.
      iteration: not used.

    Returns:
      The mean float64 [D], and the state with these scores.

    Raises:
      UserError: the search, repeated from a checkpoint, did not reproduce the
        policy.
    """
    del iteration
    search = self._at(theta, state)
    search.tell(scores)
    return search.mean, {'origin': search.origin, 'scores': search.scores}

  def _at(self, theta: np.ndarray, state: dict[str, Any]) -> '_Search':
    """Returns the search in a state, and repeats it if it is not at hand."""
    search = self._search
    if search is None or not search.is_at(state):
      search = _Search(self._config, state['origin'])
      for scores in state['scores']:
        search.tell(scores)
      mean = self._policy.network_parameters(theta)
      if not np.allclose(mean, search.mean, rtol=1e-5, atol=1e-5):
        raise UserError(
          '--method=cma: the search, repeated from the checkpoint, did not '
          'reproduce the policy: resume with the versions of cma and NumPy, '
          'and the processor, that the run began with'
        )
      self._search = search
    return search


class _Search:
  """The library's search with our random numbers, as a maximisation.

  Attributes:
    origin: float64 [D], where the search began.
    scores: float64 [iterations, S], the scores told so far.
    drawn: the S candidates, float64 [D], of the current iteration.
  """

  @blas.one_thread
  def __init__(self, config: ExperimentConfig, origin: np.ndarray):
    self._seed = config.run.seed
    self.origin = origin
    self.scores = np.zeros((0, config.sampler.num_slots))
    # The library does not touch NumPy's global generator if it is given a
    # source of random numbers.
    options = dict(
      popsize=config.sampler.num_slots, randn=self._normal, verbose=-9
    )
    self._strategy = cma.CMAEvolutionStrategy(
      origin, config.method.population_std, options
    )
    self._draw()

  def _normal(self, *shape: int) -> np.ndarray:
    return self._rng.standard_normal(shape)

  def _draw(self) -> None:
    self._rng = seeding.generator(
      self._seed, Stream.POPULATION, len(self.scores)
    )
    self.drawn = self._strategy.ask()

  @property
  def mean(self) -> np.ndarray:
    """The mean of the Gaussian, float64 [D]."""
    return self._strategy.result.xfavorite

  def is_at(self, state: dict[str, Any]) -> bool:
    """Returns whether a state describes this search."""
    return np.array_equal(self.origin, state['origin']) and np.array_equal(
      self.scores, state['scores']
    )

  @blas.one_thread
  def tell(self, scores: np.ndarray) -> None:
    """Ends the iteration with its scores [S] and draws the next candidates."""
    scored = scores > population.UNSCORED
    finite = np.where(scored, scores, scores[scored].min() - 1)
    self._strategy.tell(self.drawn, list(-finite))
    self.scores = np.concatenate([self.scores, scores[None]])
    self._draw()
