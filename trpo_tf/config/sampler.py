"""The settings of the samplers."""

import dataclasses

from trpo_tf.config.fields import Config, setting


@dataclasses.dataclass(frozen=True)
class SamplerConfig(Config):
  """The collection of a batch of experience."""

  sampler: str = setting(
    'single_path',
    'sampling procedure: single_path: along paths (section 5.1); vine: along '
    'paths and along branches that start from their states (section 5.2)',
    choices=('single_path', 'vine'),
  )
  batch_steps: int = setting(
    2000,
    'minimum env steps per iteration (--whole_episodes may add some); '
    '--sampler=vine counts those of the trunks alone',
    low=1,
    high=2**31 - 1,
  )
  num_slots: int = setting(
    8,
    'number of simulations that produce a batch together; unlike the number '
    'of threads, it changes the results',
    low=1,
    high=10_000,
  )
  num_shards: int = setting(
    1,
    'number of parts into which slots, batch, rollout set and value '
    'minibatches are cut, so that several processes or machines share a run '
    '(docs/cluster.md); it changes the results, while the number of processes '
    'does not',
    low=1,
    high=10_000,
  )
  whole_episodes: bool = setting(
    False,
    'fill every slot of a batch with complete episodes, as estimators without '
    'a value network need; otherwise episodes continue in the next batch',
  )
  on_divergence: str = setting(
    'cut',
    'what happens to the trajectory of a simulation that diverges: cut: it '
    'ends at its last finite state; drop: it is removed from the batch',
    choices=('cut', 'drop'),
  )
  sampler_threads: int = setting(
    0,
    'threads of the native sampler, or worker processes of an Atari game; 0: '
    'one per available core',
    low=0,
    high=2**31 - 1,
  )
  env_workers: int = setting(
    0,
    'Gymnasium: worker processes that step the environments, which pays if a '
    'step takes about a millisecond or more; 0: none, the environments are '
    'stepped in this process',
    low=0,
    high=10_000,
  )
  rollout_set_size: int = setting(
    125,
    'vine: N, states per iteration from which branches start',
    low=1,
    high=2**31 - 1,
  )
  branch_actions: int = setting(
    4,
    'vine: K, first actions tried in each state; --branch_proposal=all '
    'ignores K and tries every action',
    low=1,
    high=2**31 - 1,
  )
  branch_trials: int = setting(
    1,
    'vine: M, noise sequences tried after each first action',
    low=1,
    high=2**31 - 1,
  )
  branch_length: int = setting(
    50,
    'vine: L, env steps of a branch, including its first action',
    low=1,
    high=2**31 - 1,
  )
  branch_proposal: str = setting(
    'policy',
    'vine: q, the distribution of first actions: policy: the current policy; '
    'antithetic: pairs of actions of a Gaussian policy, mean + noise and '
    'mean - noise; uniform: uniform within the action bounds; all: every '
    'action of a discrete space once',
    choices=('policy', 'antithetic', 'uniform', 'all'),
  )
  branch_time_limit: bool = setting(
    False,
    "vine: end branches at the task's time limit; otherwise the limit "
    'truncates trunks only (--vine_objective=every_step always ends branches '
    'there)',
  )
