"""Evaluation of a trained policy on episodes with their own seed stream."""

import dataclasses

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.experiment import memory, statistics
from trpo_tf.experiment.backend import Backend
from trpo_tf.experiment.evaluations import Evaluated
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch
from trpo_tf.seeding import Stream


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Whole episodes of a frozen policy.

  Attributes:
    returns: float64 [E], raw undiscounted.
    lengths: int32 [E], env steps.
    terms: float64 [E] by name, sums of the reward's terms.
    diverged: number of episodes that diverged, which the other fields omit.
  """

  returns: np.ndarray
  lengths: np.ndarray
  terms: dict[str, np.ndarray]
  diverged: int

  def summary(self) -> dict:
    """Summarizes return and length, and averages each term of the reward."""
    return {
      'return': _summary(self.returns),
      'length': _summary(self.lengths.astype(float)),
      'terms': {name: _mean(sums) for name, sums in self.terms.items()},
      'diverged': self.diverged,
    }


def _mean(sums: np.ndarray) -> float | None:
  """Returns the mean for JSON, with None where it is undefined."""
  mean = float(sums.mean()) if sums.size else np.nan
  return mean if np.isfinite(mean) else None


def _summary(values: np.ndarray) -> dict:
  """Returns statistics for JSON, with None where a value is undefined."""
  if not values.size:
    return dict(mean=None, std=None, iqm=None, ci95=None, values=[])
  found = statistics.summarize(values)
  single = found.n == 1
  return dict(
    mean=found.mean,
    std=None if single else found.std,
    iqm=found.iqm,
    ci95=None if single else list(found.ci95),
    values=values.tolist(),
  )


def evaluation_config(config: ExperimentConfig, episodes: int):
  """Returns the settings for the evaluation of a run: one episode per slot.

  Args:
    config: settings of the run.
    episodes: number of episodes.
  """
  sampler = dataclasses.replace(
    config.sampler,
    sampler='single_path',
    num_slots=episodes,
    num_shards=1,
    batch_steps=episodes,
    whole_episodes=True,
    on_divergence='cut',
  )
  estimator = dataclasses.replace(
    config.estimator, baseline='none', amortized_advantage=False
  )
  seed = seeding.derived_seed(config.run.seed, Stream.EVALUATION)
  return dataclasses.replace(
    config.reseeded(seed), sampler=sampler, estimator=estimator
  )


def check(made: Backend) -> None:
  """Raises UserError if the evaluations during a run do not fit into memory.

  Args:
    made: the task with the settings of the run.
  """
  config = made.config
  if config.run.eval_every_env_steps:
    evaluated = evaluation_config(config, config.run.eval_episodes)
    memory.check_evaluation(made.configured(evaluated), '--eval_episodes')


def evaluate(
  made: Backend,
  theta: np.ndarray,
  normalizer: Normalizer,
  episodes: int,
  deterministic: bool,
  keeps_observations: bool = False,
) -> tuple[Evaluation, Batch]:
  """Runs whole episodes with the training normaliser frozen.

  Args:
    made: the task with the settings of the run; their seed determines the
      evaluation's stream.
    theta: float32 [P], the policy.
    normalizer: normaliser of observations, as saved with theta.
    episodes: number of episodes.
    deterministic: whether to act by the mean of the policy or to sample.
    keeps_observations: whether the batch of a game has what the policy saw.

  Returns:
    The evaluation, and the batch of its episodes, one per slot.

  Raises:
    UserError: the episodes need more memory than there is.
  """
  task = made.configured(evaluation_config(made.config, episodes))
  memory.check_evaluation(task)
  sampler = task.paths()
  sampler.keeps_observations = keeps_observations
  try:
    batch = sampler.sample(theta, normalizer, 0, deterministic=deterministic)
  finally:
    sampler.close()
  found = Evaluation(
    batch.episode_returns,
    batch.episode_lengths,
    batch.episode_terms,
    diverged=len(batch.diverged),
  )
  return found, batch


def in_training(
  made: Backend,
  theta: np.ndarray,
  normalizer: Normalizer,
  iteration: int,
  env_steps: int,
) -> Evaluated:
  """Evaluates the mean policy between two iterations of a run.

  Each evaluation has a sampler and a seed of its own, so it leaves the training
  as it is, and its episodes are not those of the program evaluate.

  Args:
    made: the task with the settings of the run.
    theta: float32 [P], the policy.
    normalizer: normaliser of observations.
    iteration: iterations done.
    env_steps: env steps trained.

  Returns:
    The row of evaluations.csv.

  Raises:
    UserError: the environment failed.
  """
  config = made.config
  seed = seeding.derived_seed(
    config.run.seed, Stream.TRAINING_EVALUATION, iteration
  )
  found, _ = evaluate(
    made.configured(config.reseeded(seed)),
    theta,
    normalizer,
    config.run.eval_episodes,
    deterministic=True,
  )
  number = found.returns.size
  nan = float('nan')
  return Evaluated(
    int(iteration),
    int(env_steps),
    return_mean=float(found.returns.mean()) if number else nan,
    return_std=float(found.returns.std(ddof=1)) if number > 1 else nan,
    episodes=number,
    length_mean=float(found.lengths.mean()) if number else nan,
    diverged=found.diverged,
  )
