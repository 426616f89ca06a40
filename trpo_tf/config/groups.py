"""The groups of settings, except run.py, sampler.py and methods.py.

All defaults are defined in this package. The binaries generate their flags from
these dataclasses (one flag per field, with the same name), library code
receives the dataclasses, and a run directory stores them as a flagfile that
repeats the run. Each `setting` states its meaning, with its unit; a value
outside its range raises ValueError naming the field, the value and the range.
"""

import dataclasses
import json
from typing import Any

from trpo_tf.config.fields import Config, setting

_MAX_UNITS = 1_000_000  # of a layer


@dataclasses.dataclass(frozen=True)
class TaskConfig(Config):
  """The task to learn and its actions."""

  task: str = setting(
    'Hopper-v5',
    'task to learn: a native task (Hopper-v5, paper/cartpole), your own task '
    'in a Python file (path/to/file.py:NAME), an Atari game (atari/pong), or '
    'any Gymnasium id (module:Id-v0)',
  )
  time_limit: int = setting(
    0,
    "env steps after which an episode is truncated; 0: the task's own limit",
    low=0,
    high=2**31 - 1,
  )
  action_range: str = setting(
    'raw',
    'what an action of 1 means: raw: one unit of control; control: the upper '
    "end of the actuator's control range or of Gymnasium's Box",
    choices=('raw', 'control'),
  )
  clip_actions: bool = setting(
    True,
    'clip actions to the control range before the environment receives them; '
    'the batch keeps the unclipped actions',
  )
  env_kwargs: str = setting(
    '',
    'Gymnasium: keyword arguments of gymnasium.make as a JSON object, such as '
    '{"max_episode_steps": 200}; empty: none',
  )
  check_env: bool = setting(
    True,
    'Gymnasium: run its environment checker once before a run begins',
  )

  def __post_init__(self):
    """Writes env_kwargs in one form, so that equal arguments are equal text.

    Raises:
      ValueError: a value is out of range, or env_kwargs is no JSON object.
    """
    super().__post_init__()
    try:
      found = json.loads(self.env_kwargs or '{}')
      if not isinstance(found, dict):
        raise TypeError(f'it is a {type(found).__name__}')
    except (RecursionError, TypeError, ValueError) as error:
      raise ValueError(
        f'--env_kwargs={self.env_kwargs[:80]} is not a JSON object such as '
        f'{{"max_episode_steps": 200}}: {error}'
      ) from None
    text = json.dumps(found, sort_keys=True) if found else ''
    object.__setattr__(self, 'env_kwargs', text)

  @property
  def env_keywords(self) -> dict[str, Any]:
    """The keyword arguments of gymnasium.make."""
    return json.loads(self.env_kwargs or '{}')


@dataclasses.dataclass(frozen=True)
class AtariConfig(Config):
  """Observations, actions and rewards of an Atari game (--task=atari/...)."""

  atari_observation: str = setting(
    'paper',
    'size of a frame: paper: 52 x 40, the mean of each 4 x 4 pixels, as in '
    'the paper; nature: the screen averaged to 84 x 84',
    choices=('paper', 'nature'),
  )
  atari_actions: str = setting(
    'joystick',
    'action space: joystick: three factors (horizontal, vertical, button); '
    'minimal: one choice among the actions that the game uses',
    choices=('joystick', 'minimal'),
  )
  frame_skip: int = setting(
    4,
    'emulator frames per env step; all of them get the same action',
    low=1,
    high=1000,
  )
  noop_max: int = setting(
    30,
    'maximum number of emulator frames without an action at the start of an '
    'episode, drawn uniformly from 1 to this maximum; 0: none',
    low=0,
    high=10_000,
  )
  stagger_steps: int = setting(
    0,
    'cut the first episodes of a run after up to so many env steps, evenly '
    'over the slots, so that games of equal length do not stay in one phase; '
    '0: no cut',
    low=0,
    high=2**31 - 1,
  )
  sticky_actions: float = setting(
    0.0,
    'probability that an emulator frame repeats the action of the previous '
    'frame instead of taking its own',
    low=0,
    high=0.99,
  )
  life_loss_ends_return: bool = setting(
    False, 'end the return, but not the game, when a life is lost'
  )
  clip_rewards: bool = setting(
    False,
    "learn from the sign of each env step's reward; logged scores stay raw",
  )


@dataclasses.dataclass(frozen=True)
class PolicyConfig(Config):
  """The policy network and the observation normaliser."""

  policy: str = setting(
    '',
    'Gymnasium: your own function (observation_size, output_size) -> Network '
    '(my_module:make_network or path/to/file.py:make_network); empty: a '
    'multilayer perceptron of --hidden_sizes',
  )
  network_seed: int = setting(
    -1,
    'seed from which the function of --policy draws; -1: --seed',
    low=-1,
    high=2**31 - 1,
  )
  hidden_sizes: tuple[int, ...] = setting(
    (64, 64),
    'units per hidden layer; empty: a linear policy',
    low=1,
    high=_MAX_UNITS,
  )
  conv_filters: tuple[int, ...] = setting(
    (16, 16),
    'Atari and images: filters of each convolution (4 x 4, stride 2) before '
    'the hidden layers, in the policy network and in the value network',
    low=1,
    high=_MAX_UNITS,
  )
  activation: str = setting(
    'tanh',
    'activation of the hidden layers',
    choices=('tanh', 'softplus', 'relu'),
  )
  initial_log_std: float = setting(
    -0.5, 'initial log standard deviation of a Gaussian policy', low=-20, high=5
  )
  output_scale: float = setting(
    0.01, 'scale of the initial weights of the output layer', low=0, high=10
  )
  normalize_observations: bool = setting(
    True,
    'normalize observations by their running mean and standard deviation',
  )
  normalizer_iterations: int = setting(
    0,
    'number of first iterations that update the normalizer, which is frozen '
    'afterwards; 0: all iterations update it',
    low=0,
    high=2**53,
  )
  observation_clip: float = setting(
    10.0,
    'bound on the absolute value of a normalized observation, in standard '
    'deviations',
    low=0,
    open_low=True,
    high=1e30,
  )


@dataclasses.dataclass(frozen=True)
class EstimatorConfig(Config):
  """Returns, advantages and the baseline."""

  gamma: float = setting(0.99, 'discount per env step', low=0, high=1)
  gae_lambda: float = setting(
    0.95, 'lambda of generalized advantage estimation', low=0, high=1
  )
  baseline: str = setting(
    'value_network',
    'baseline subtracted from returns; vine: value_network estimates the '
    'return after the last step of a branch, none ignores it',
    choices=('none', 'time', 'linear', 'value_network'),
  )
  vine_objective: str = setting(
    'self_normalized',
    'vine: form of the surrogate (docs/vine.md): every_step uses the steps of '
    'trunks and branches, the others only the first actions of branches; '
    'all_actions requires --branch_proposal=all',
    choices=(
      'every_step',
      'self_normalized',
      'mean_baseline',
      'importance_sampled',
      'all_actions',
    ),
  )
  occupancy_weights: bool = setting(
    True,
    'vine, every_step: weight each step so that states late in an episode, '
    'where branches go more often, count as often as on trunks',
  )
  amortized_advantage: bool = setting(
    False,
    'vine, every_step: learn from differences of branches what actions are '
    'worth, and subtract it from the later terms of GAE',
  )
  standardize_advantages: bool = setting(
    True,
    'shift and scale the advantages of a batch to mean 0 and standard '
    'deviation 1; vine: divide Q by its standard deviation over the actions '
    'of a state, averaged over states',
  )
  entropy_coefficient: float = setting(
    0.0,
    'coefficient of an entropy bonus: the surrogate adds this multiple of the '
    "policy's mean entropy in nats, in units of the scaled advantages; it can "
    'widen a Gaussian without bound',
    low=0,
    high=1e6,
  )
  value_hidden_sizes: tuple[int, ...] = setting(
    (64, 64),
    'units per hidden layer of the value network',
    low=1,
    high=_MAX_UNITS,
  )
  value_learning_rate: float = setting(
    1e-3,
    'Adam learning rate of the value network',
    low=0,
    open_low=True,
    high=1e3,
  )
  value_epochs: int = setting(
    10,
    'passes over each batch to fit the value network',
    low=1,
    high=10_000,
  )
  value_minibatch: int = setting(
    125,
    'env steps per minibatch (one Adam step) of the value network',
    low=1,
    high=2**31 - 1,
  )


@dataclasses.dataclass(frozen=True)
class TrustRegionConfig(Config):
  """The constrained step of appendix C."""

  max_kl: float = setting(
    0.01,
    'bound delta on the mean KL divergence of a step, in nats',
    low=0,
    open_low=True,
    high=1e6,
  )
  cg_iterations: int = setting(
    10, 'maximum conjugate gradient iterations', low=1, high=1000
  )
  cg_damping: float = setting(
    0.1,
    'damping: conjugate gradient adds this multiple of the identity to the '
    'Fisher matrix',
    low=0,
    high=1e12,
  )
  fisher_fraction: float = setting(
    1.0,
    'fraction of the states that Fisher-vector products use',
    low=0,
    high=1,
    open_low=True,
  )
  backtrack_ratio: float = setting(
    0.8,
    'factor by which each try of the line search shortens the step',
    low=0,
    high=0.99,
    open_low=True,
  )
  kl_slack: float = setting(
    1.0,
    'largest KL that the line search accepts, as a multiple of --max_kl',
    low=1,
    high=10,
  )
  max_backtracks: int = setting(
    10, 'maximum tries of the line search', low=1, high=100
  )
