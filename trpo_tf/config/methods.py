"""The names and the settings of the methods."""

import dataclasses

from trpo_tf.config.fields import Config, setting

# Each slot of a batch acts by the mean action of its own candidate.
POPULATION_METHODS = ('cem', 'cma')
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
  """The method: TRPO or a method it is compared with."""

  method: str = setting(
    'trpo',
    'how a batch updates the policy: TRPO, another step on the same '
    'surrogate, or a method that compares whole paths (cem, cma, rwr); see '
    'docs/methods.md',
    choices=METHODS,
  )
  lagrange_multiplier: float = setting(
    1.0,
    'natural_gradient: fixed multiplier of the KL divergence; the step is '
    'the natural gradient divided by this number',
    low=0,
    open_low=True,
    high=1e12,
  )
  kl_coefficient: float = setting(
    1.0,
    'kl_penalty: coefficient of the mean KL that is subtracted from the '
    'surrogate; the initial one with --adapt_kl_coefficient',
    low=0,
    open_low=True,
    high=1e12,
  )
  adapt_kl_coefficient: bool = setting(
    False,
    'kl_penalty: double the coefficient after a step whose mean KL exceeds '
    '1.5 times --max_kl, and halve it if the mean KL is below 2/3 of --max_kl',
  )
  l2_bound: float = setting(
    1e-4,
    'policy_gradient: bound on half the squared length of the step in '
    'parameter space',
    low=0,
    open_low=True,
    high=1e12,
  )
  fit_evaluations: int = setting(
    100,
    'kl_penalty, rwr: maximum L-BFGS evaluations per iteration',
    low=1,
    high=1_000_000,
  )
  elite_fraction: float = setting(
    0.1,
    'cem, rwr: fraction of the paths, those with the highest returns, that '
    'the update uses',
    low=0,
    high=1,
    open_low=True,
  )
  population_std: float = setting(
    0.1,
    'cem, cma: initial standard deviation of the population around the '
    'initial policy, for each parameter',
    low=0,
    open_low=True,
    high=1e3,
  )
  extra_std: float = setting(
    0.1,
    'cem: standard deviation of the extra noise at first; its square is added '
    "to the population's variance",
    low=0,
    high=1e3,
  )
  extra_std_iterations: int = setting(
    20,
    'cem: iterations over which the extra variance falls to zero',
    low=1,
    high=2**53,
  )
  rwr_weights: str = setting(
    'elite',
    'rwr: weights of the regression: elite: 1 for every step of the elite '
    "paths; exponential: exponential in a step's return minus the mean return "
    'of its time step',
    choices=('elite', 'exponential'),
  )
  rwr_temperature: float = setting(
    1.0,
    'rwr: an increase of the return by this many standard deviations '
    'multiplies an exponential weight by e',
    low=0,
    open_low=True,
    high=1e6,
  )
