"""The settings of a run: its length, its directory and its evaluations."""

import dataclasses

from trpo_tf.config.fields import Config, setting

NO_RETURN = 1e30  # is never reached


@dataclasses.dataclass(frozen=True)
class RunConfig(Config):
  """One training run and its directory."""

  seed: int = setting(0, 'seed of all random numbers', low=0, high=2**31 - 1)
  total_env_steps: int = setting(
    1_000_000, 'env steps to train for', low=1, high=2**53
  )
  total_iterations: int = setting(
    0,
    'maximum iterations to train for; --total_env_steps also ends the run; 0: '
    'no maximum',
    low=0,
    high=2**53,
  )
  run_dir: str = setting('', 'directory of the run (required)')
  resume: str = setting(
    'auto',
    'if run_dir already holds a run: auto: continue it; never: stop with an '
    'error',
    choices=('auto', 'never'),
  )
  checkpoint_seconds: float = setting(
    60.0,
    'minimum seconds between checkpoints; 0: a checkpoint every iteration',
    low=0,
    high=1e9,
  )
  keep_checkpoints: int = setting(
    3,
    'number of newest checkpoints to keep',
    low=1,
    high=2**31 - 1,
  )
  eval_every_env_steps: int = setting(
    0,
    'evaluate the mean policy each time that training passes a multiple of '
    'this number of env steps; 0: never',
    low=0,
    high=2**53,
  )
  eval_episodes: int = setting(
    10, 'whole episodes of an evaluation in training', low=1, high=10_000
  )
  stop_at_return: float = setting(
    NO_RETURN,
    'end the run when an evaluation in training (--eval_every_env_steps) '
    'reaches this mean return; 1e30: never',
    low=-NO_RETURN,
    high=NO_RETURN,
  )
  init_from: str = setting(
    '',
    'directory of a run whose policy, normaliser and value network this run '
    'begins with; empty: begin at random',
  )
  max_refused_steps: int = setting(
    0,
    'end the run with an error after this many refused steps in a row '
    '(docs/troubleshooting.md); 0: never',
    low=0,
    high=2**31 - 1,
  )
  tensorboard: bool = setting(True, 'write TensorBoard event files')
  json_lines: bool = setting(
    False,
    'also write progress.jsonl: the rows of progress.csv as JSON objects, one '
    'on each line',
  )
  wandb: str = setting(
    '',
    'project of Weights & Biases that receives the numbers of TensorBoard '
    '(docs/progress.md); empty: none',
  )
  mlflow: str = setting(
    '',
    'experiment of MLflow that receives the numbers of TensorBoard '
    '(docs/progress.md); empty: none',
  )
  tf_threads: int = setting(
    0,
    'TensorFlow threads per operation; 0: all available cores',
    low=0,
    high=2**31 - 1,
  )
  device: str = setting(
    'cpu',
    'where TensorFlow computes: the cpu, or the first gpu (docs/gpu.md)',
    choices=('cpu', 'gpu'),
  )
  deterministic_gpu: bool = setting(
    True,
    'a gpu: only operations that give the same bytes every time, which are '
    'slower',
  )
