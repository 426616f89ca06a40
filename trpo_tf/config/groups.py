"""The groups of settings, except that of the methods.

This package is the one home of defaults. The binaries generate their flags from
these dataclasses (one flag a field, of the same name), library code receives
the dataclasses, and a run directory stores them as the flagfile that repeats
the run. Each `setting` states what the field means, with its unit; a value
outside its range raises ValueError naming the field, the value and the range.
"""

import dataclasses

from trpo_tf.config.fields import Config, setting


@dataclasses.dataclass(frozen=True)
class TaskConfig(Config):
  """What is learned."""

  task: str = setting(
    'Hopper-v5',
    'task: a native one (Hopper-v5, ...), the Python file of one of your own '
    '(path/to/file.py:NAME), an Atari game (atari/pong), or any Gymnasium id '
    '(module:Id-v0)',
  )
  time_limit: int = setting(
    0,
    "env steps after which an episode is truncated; 0: the task's own",
    low=0,
  )
  action_range: str = setting(
    'raw',
    'meaning of an action of one: one unit of control (raw), or the end of '
    "the actuator's control range (control)",
    choices=('raw', 'control'),
  )
  clip_actions: bool = setting(
    True,
    'clip actions to the control range before the environment sees them; the '
    'batch keeps the unclipped action',
  )


@dataclasses.dataclass(frozen=True)
class AtariConfig(Config):
  """How a game of --task=atari/... is seen and played."""

  atari_observation: str = setting(
    'paper',
    "a frame: the paper's, every 4 x 4 pixels averaged (52 x 40), or "
    'of 84 x 84 averages (nature)',
    choices=('paper', 'nature'),
  )
  atari_actions: str = setting(
    'joystick',
    'actions: three factors, horizontal, vertical and button, or '
    'one choice among those that the game uses (minimal)',
    choices=('joystick', 'minimal'),
  )
  frame_skip: int = setting(
    4, 'emulator frames of an env step, all with its action', low=1, high=1000
  )
  noop_max: int = setting(
    30,
    'most emulator frames of doing nothing that begin an episode; their '
    'number is uniform from 1',
    low=0,
    high=10_000,
  )
  sticky_actions: float = setting(
    0.0,
    "probability, each emulator frame, that the frame before's action is "
    'repeated instead',
    low=0,
    high=0.99,
  )
  life_loss_ends_return: bool = setting(
    False, 'end the return, but not the game, at the loss of a life'
  )
  clip_rewards: bool = setting(
    False,
    'learn from the sign of the reward of an env step; the scores that '
    'are logged stay raw',
  )


@dataclasses.dataclass(frozen=True)
class PolicyConfig(Config):
  """The policy network and the observation normaliser."""

  hidden_sizes: tuple[int, ...] = setting(
    (64, 64), 'units of each hidden layer; empty: a linear policy', low=1
  )
  conv_filters: tuple[int, ...] = setting(
    (16, 16),
    'Atari: filters of each convolution, 4 x 4 with stride 2, before '
    'the hidden layers; of the value network too',
    low=1,
  )
  activation: str = setting(
    'tanh', 'activation of the hidden layers', choices=('tanh', 'softplus')
  )
  initial_log_std: float = setting(
    -0.5, 'initial log standard deviation of a Gaussian policy', low=-20, high=5
  )
  output_scale: float = setting(
    0.01, 'scale of the initial output layer', low=0, high=10
  )
  normalize_observations: bool = setting(
    True, 'normalise observations by running mean and standard deviation'
  )
  normalizer_iterations: int = setting(
    0,
    'iterations whose batches the normaliser learns from, then it stays as '
    'it is; 0: all',
    low=0,
  )
  observation_clip: float = setting(
    10.0,
    'bound on normalised observations, in standard deviations',
    low=0,
    open_low=True,
  )


@dataclasses.dataclass(frozen=True)
class SamplerConfig(Config):
  """How a batch of experience is collected."""

  sampler: str = setting(
    'single_path',
    'sampling procedure: along paths (section 5.1), or also '
    'along branches from states of the paths (section 5.2)',
    choices=('single_path', 'vine'),
  )
  batch_steps: int = setting(
    2000,
    'env steps per iteration (at least; whole episodes may add some); '
    'of the trunks alone with --sampler=vine',
    low=1,
  )
  num_slots: int = setting(
    8,
    'simulations that share a batch; fixes the result, unlike threads',
    low=1,
  )
  whole_episodes: bool = setting(
    False,
    'begin and end every slot of a batch with an episode boundary, as '
    'estimators without a value network need; otherwise episodes carry over',
  )
  on_divergence: str = setting(
    'cut',
    "a diverged simulation's trajectory is cut at its last finite "
    'state, or dropped from the batch',
    choices=('cut', 'drop'),
  )
  sampler_threads: int = setting(
    0,
    'threads of the native sampler, worker processes of an Atari game; 0: '
    'all available cores',
    low=0,
  )
  rollout_set_size: int = setting(
    125, 'vine: states per iteration from which branches start, N', low=1
  )
  branch_actions: int = setting(
    4,
    'vine: first actions tried in each state, K (--branch_proposal=all: '
    'every action, whatever K)',
    low=1,
  )
  branch_trials: int = setting(
    1, 'vine: noise sequences that follow each first action, M', low=1
  )
  branch_length: int = setting(
    50, 'vine: env steps of a branch, its first action included, L', low=1
  )
  branch_proposal: str = setting(
    'policy',
    'vine: what draws the first actions, q: the policy, uniformly '
    'within the action bounds, or every action of a discrete space once',
    choices=('policy', 'uniform', 'all'),
  )
  branch_time_limit: bool = setting(
    False,
    "vine: end a branch at the task's time limit; otherwise only the "
    'trunks are truncated',
  )


@dataclasses.dataclass(frozen=True)
class EstimatorConfig(Config):
  """Returns, advantages and the baseline."""

  gamma: float = setting(0.99, 'discount per env step', low=0, high=1)
  gae_lambda: float = setting(
    0.95, 'lambda of generalised advantage estimation', low=0, high=1
  )
  baseline: str = setting(
    'value_network',
    'baseline subtracted from returns; vine: the value '
    'network continues branches at their cut',
    choices=('none', 'time', 'linear', 'value_network'),
  )
  vine_objective: str = setting(
    'self_normalized',
    'vine: surrogate over the first actions; all_actions '
    'needs --branch_proposal=all',
    choices=(
      'self_normalized',
      'mean_baseline',
      'importance_sampled',
      'all_actions',
    ),
  )
  standardize_advantages: bool = setting(
    True,
    'shift and scale the advantages of a batch to mean 0, deviation 1; '
    'vine: scale Q by its mean deviation over the actions of a state',
  )
  value_hidden_sizes: tuple[int, ...] = setting(
    (64, 64), 'units of the hidden layers of the value network', low=1
  )
  value_learning_rate: float = setting(
    1e-3, 'Adam learning rate of the value network', low=0, open_low=True
  )
  value_epochs: int = setting(
    10, 'passes over the batch per iteration to fit the value network', low=1
  )
  value_minibatch: int = setting(
    125, 'env steps per Adam step of the value network', low=1
  )


@dataclasses.dataclass(frozen=True)
class TrustRegionConfig(Config):
  """The constrained step of appendix C."""

  max_kl: float = setting(
    0.01,
    'bound delta on the mean KL divergence of a step, in nats',
    low=0,
    open_low=True,
  )
  cg_iterations: int = setting(
    10, 'conjugate gradient iterations', low=1, high=1000
  )
  cg_damping: float = setting(
    0.1, 'multiple of the identity added to the Fisher matrix in CG', low=0
  )
  fisher_fraction: float = setting(
    1.0,
    'fraction of the states used in Fisher-vector products',
    low=0,
    high=1,
    open_low=True,
  )
  backtrack_ratio: float = setting(
    0.8,
    'factor between the tries of the line search',
    low=0,
    high=0.99,
    open_low=True,
  )
  kl_slack: float = setting(
    1.0,
    'KL that the line search accepts, in multiples of --max_kl',
    low=1,
    high=10,
  )
  max_backtracks: int = setting(10, 'tries of the line search', low=1, high=100)


@dataclasses.dataclass(frozen=True)
class RunConfig(Config):
  """One training run and its directory."""

  seed: int = setting(0, 'seed of everything random', low=0, high=2**31 - 1)
  total_env_steps: int = setting(
    1_000_000, 'env steps to train for', low=1, high=2**53
  )
  total_iterations: int = setting(
    0,
    'iterations to train for, if --total_env_steps allow it; 0: any number',
    low=0,
  )
  run_dir: str = setting('', 'directory of the run (required)')
  resume: str = setting(
    'auto',
    'continue the run in run_dir if there is one, or refuse to',
    choices=('auto', 'never'),
  )
  checkpoint_seconds: float = setting(
    60.0, 'least seconds between checkpoints; 0: one each iteration', low=0
  )
  keep_checkpoints: int = setting(3, 'newest checkpoints to keep', low=1)
  tensorboard: bool = setting(True, 'write TensorBoard event files')
  tf_threads: int = setting(
    0, 'TensorFlow threads per operation; 0: all available cores', low=0
  )
