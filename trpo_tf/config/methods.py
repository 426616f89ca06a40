"""The names and the settings of the methods."""

import dataclasses

from trpo_tf.config.fields import Config, setting

POPULATION_METHODS = ('cem', 'cma')  # one candidate a slot, acting by its mean
STEP_METHODS = (
  'trpo',
  'natural_gradient',
  'max_kl',
  'empirical_fisher',
  'kl_penalty',
  'policy_gradient',
)
METHODS = (*STEP_METHODS, *POPULATION_METHODS, 'rwr')


@dataclasses.dataclass(frozen=True)
class MethodConfig(Config):
  """What turns a batch into the next policy: TRPO, or what it is beside."""

  method: str = setting(
    'trpo',
    'update of the policy: the trust-region step; the other steps on '
    'the surrogate that section 8 of the paper compares it with; or the '
    'derivative-free cem, cma and rwr',
    choices=METHODS,
  )
  lagrange_multiplier: float = setting(
    1.0,
    'natural_gradient: fixed multiplier of the KL divergence; a step is '
    'the natural gradient divided by it',
    low=0,
    open_low=True,
  )
  kl_coefficient: float = setting(
    1.0,
    'kl_penalty: factor of the mean KL that is subtracted from the '
    'surrogate; the first one if it adapts',
    low=0,
    open_low=True,
  )
  adapt_kl_coefficient: bool = setting(
    False,
    'kl_penalty: double the coefficient after a step beyond 1.5 times '
    '--max_kl, halve it after one within 2/3 of it',
  )
  l2_bound: float = setting(
    1e-4,
    'policy_gradient: bound on half the squared length of a step in the '
    'parameters',
    low=0,
    open_low=True,
  )
  fit_evaluations: int = setting(
    100, 'kl_penalty, rwr: most evaluations of L-BFGS an iteration', low=1
  )
  elite_fraction: float = setting(
    0.1,
    'cem, rwr: share of the paths, the best ones, that is learned from',
    low=0,
    high=1,
    open_low=True,
  )
  population_std: float = setting(
    0.1,
    'cem, cma: initial deviation of the population around the initial '
    'policy, in each parameter',
    low=0,
    open_low=True,
  )
  extra_std: float = setting(
    0.1,
    'cem: deviation that is added to the population, in variance, at first',
    low=0,
  )
  extra_std_iterations: int = setting(
    20, 'cem: iterations over which the added variance falls to zero', low=1
  )
  rwr_weights: str = setting(
    'elite',
    'rwr: weights in the regression: one for every step of the elite '
    "paths, or exponential in a step's return over the mean of its time step",
    choices=('elite', 'exponential'),
  )
  rwr_temperature: float = setting(
    1.0,
    'rwr: deviations over which an exponential weight changes by e',
    low=0,
    open_low=True,
  )
