"""CMA-ES (Hansen and Ostermeier 2001), by the library `cma`."""

from typing import Any

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.methods import population
from trpo_tf.seeding import Stream

__all__ = ['Cma', 'MAX_PARAMETERS']

# The covariance is a D x D matrix whose eigendecomposition takes O(D^3):
# seconds at this size, and no population of a batch's size could estimate more.
MAX_PARAMETERS = 2000

_LEAST_POPULATION = 4  # half of them are parents, and one is no recombination


class Cma(population.PopulationLearner):
  """A Gaussian with full covariance over the network's D parameters.

  The state is where the search began, origin float64 [D], and what every
  candidate of every iteration scored, scores float64 [iterations, S]: all else
  is the library's work on them, which is repeated when a run is resumed. This
  keeps checkpoints small, and free of the library's own pickles. Between
  consecutive iterations the library's search is at hand and goes on.
  """

  def __init__(self, policy: Any, config: ExperimentConfig):
    """Args: the policy whose network is searched for; the experiment.

    Raises:
      UserError: a population too small, a network too large, or the library
        is not installed.
    """
    slots, size = config.sampler.num_slots, policy.network.num_parameters
    if slots < _LEAST_POPULATION:
      raise UserError(
        f'--method=cma needs {_LEAST_POPULATION} candidates or more, one a '
        f'slot: raise --num_slots={slots}'
      )
    if size > MAX_PARAMETERS:
      raise UserError(
        f'--method=cma adapts a {size} x {size} covariance of the parameters, '
        f'whose eigenvectors cost the cube; {MAX_PARAMETERS} are the most: '
        'take smaller --hidden_sizes, or --method=cem or rwr'
      )
    _library()
    self._config, self._num_parameters = config, size
    self._search: _Search | None = None

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """A search that begins at the initial policy and has seen nothing."""
    del rng
    origin = theta[: self._num_parameters].astype(np.float64)
    return {
      'origin': origin,
      'scores': np.zeros((0, self._config.sampler.num_slots)),
    }

  def candidates(self, theta, state, iteration):
    """As PopulationLearner; the iteration is the number of scores.

    Raises:
      UserError: a resumed search came out elsewhere than the first time.
    """
    del iteration
    return population.with_network(
      theta, np.stack(self._at(theta, state).drawn)
    )

  def learn(self, theta, state, scores, iteration):
    """Adapts mean, step size and covariance to the ranks of the scores."""
    del iteration
    search = self._at(theta, state)
    search.tell(scores)
    return search.mean, {'origin': search.origin, 'scores': search.scores}

  def _at(self, theta: np.ndarray, state: dict[str, Any]) -> '_Search':
    """The search in that state: the one at hand, or else repeated."""
    search = self._search
    if search is None or not search.is_at(state):
      search = _Search(self._config, state['origin'])
      for scores in state['scores']:
        search.tell(scores)
      mean = theta[: self._num_parameters]
      if not np.allclose(mean, search.mean, rtol=1e-5, atol=1e-5):
        raise UserError(
          '--method=cma: the search repeated from the checkpoint came out '
          'elsewhere than the policy: resume with the versions of cma and '
          'NumPy, and the processor, that the run began with'
        )
      self._search = search
    return search


class _Search:
  """The library's search, by our random numbers; it maximises.

  Attributes:
    origin: float64 [D], where it began.
    scores: float64 [iterations, S], told so far.
    drawn: list of S candidates, float64 [D], of the current iteration.
  """

  def __init__(self, config: ExperimentConfig, origin: np.ndarray):
    self._seed = config.run.seed
    self.origin = origin
    self.scores = np.zeros((0, config.sampler.num_slots))
    # given its random numbers, the library leaves NumPy's global ones alone
    options = dict(
      popsize=config.sampler.num_slots, randn=self._normal, verbose=-9
    )
    self._strategy = _library().CMAEvolutionStrategy(
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
    """float64 [D]."""
    return self._strategy.result.xfavorite

  def is_at(self, state: dict[str, Any]) -> bool:
    """Whether this is what a state describes."""
    return np.array_equal(self.origin, state['origin']) and np.array_equal(
      self.scores, state['scores']
    )

  def tell(self, scores: np.ndarray) -> None:
    """Ends the iteration whose candidates scored [S] and draws the next."""
    scored = scores > population.UNSCORED
    finite = np.where(scored, scores, scores[scored].min() - 1)
    self._strategy.tell(self.drawn, list(-finite))
    self.scores = np.concatenate([self.scores, scores[None]])
    self._draw()


def _library() -> Any:
  """The library, which nothing else needs."""
  try:
    import cma
  except ImportError as error:
    raise UserError(
      '--method=cma needs the library cma: pip install "trpo_tf[cma]", or take '
      '--method=cem'
    ) from error
  return cma
