"""What a run would do, for --dry_run."""

from trpo_tf.experiment import flagfiles, memory, run_directory
from trpo_tf.experiment.training import Training

__all__ = ['describe']


def describe(training: Training) -> str:
  """Describes a run that has not begun.

  Args:
    training: the run, at its beginning.

  Returns:
    A flagfile of all settings, and comments: the policy, iterations, memory,
    and what happens to the run's directory.

  Raises:
    UserError: the directory cannot be used.
  """
  config, policy = training.config, training.policy
  parts = memory.estimate(training.backend)
  largest = max(parts, key=lambda part: part.size)
  lines = [
    training.backend.describe(),
    f'policy: {policy.num_parameters:,} parameters, '
    f'{policy.observation_size:,} inputs, {policy.output_size:,} outputs',
    *_iterations(training),
    f'memory: about {memory.gigabytes(sum(part.size for part in parts))} of '
    f'{memory.gigabytes(memory.available())}; most of it for {largest.name}',
    run_directory.preview(config)
    if config.run.run_dir
    else 'directory: none, --run_dir is missing',
  ]
  return flagfiles.flagfile(config) + ''.join(
    f'# {line}\n' for line in lines if line
  )


def _iterations(training: Training) -> tuple[str, str]:
  """Describes the steps of an iteration, and the number of iterations."""
  config = training.config
  run, steps = config.run, config.sampler.batch_steps
  more = ''
  if config.sampler.sampler == 'vine':
    most = config.max_branch_steps(training.backend.policy().num_actions)
    more = f' on trunks, and up to {most:,} on branches'
  elif config.sampler.whole_episodes:
    more = ' or more, in whole episodes'
  count = -(-run.total_env_steps // steps)
  if run.total_iterations:
    count = min(count, run.total_iterations)
  if count * steps < run.total_env_steps:
    return (
      f'an iteration: {steps:,} env steps{more}',
      f'iterations: {count:,}',
    )
  return (
    f'an iteration: {steps:,} env steps{more}',
    f'iterations: {"at most " if more else ""}{count:,}, until '
    f'{run.total_env_steps:,} env steps',
  )
