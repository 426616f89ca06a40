"""Evaluation of a trained policy on episodes of its own seed stream."""

import dataclasses

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.experiment import backend, statistics
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch
from trpo_tf.seeding import Stream


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Whole episodes of a frozen policy.

  Attributes:
    returns: float64 [E], raw undiscounted.
    lengths: int32 [E], env steps.
    terms: sums of the reward's terms, float64 [E] by name.
    diverged: episodes that broke, left out of the others.
  """

  returns: np.ndarray
  lengths: np.ndarray
  terms: dict[str, np.ndarray]
  diverged: int

  def summary(self) -> dict:
    """Statistics of return and length, and the mean of each reward term."""
    return {
      'return': _summary(self.returns),
      'length': _summary(self.lengths.astype(float)),
      'terms': {
        name: float(sums.mean()) if sums.size else None
        for name, sums in self.terms.items()
      },
      'diverged': self.diverged,
    }


def _summary(values: np.ndarray) -> dict:
  """Statistics that JSON can hold: null where one value has no spread."""
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
  """The settings under which a run is evaluated: one episode per slot."""
  sampler = dataclasses.replace(
    config.sampler,
    sampler='single_path',
    num_slots=episodes,
    batch_steps=episodes,
    whole_episodes=True,
    on_divergence='cut',
  )
  estimator = dataclasses.replace(config.estimator, baseline='none')
  seed = seeding.derived_seed(config.run.seed, Stream.EVALUATION)
  run = dataclasses.replace(config.run, seed=seed)
  return dataclasses.replace(
    config, sampler=sampler, estimator=estimator, run=run
  )


def evaluate(
  config: ExperimentConfig,
  theta: np.ndarray,
  normalizer: Normalizer,
  episodes: int,
  deterministic: bool,
) -> tuple[Evaluation, Batch]:
  """Runs whole episodes with the training normaliser frozen.

  Args:
    config: of the run; its seed gives the evaluation's own stream.
    theta: float32 [P].
    normalizer: as saved with theta.
    episodes: how many.
    deterministic: act by the mean of the policy instead of sampling.

  Returns:
    The evaluation, and the batch of its episodes, one a slot.
  """
  config = evaluation_config(config, episodes)
  sampler = backend.resolve(config).paths()
  batch = sampler.sample(theta, normalizer, 0, deterministic=deterministic)
  found = Evaluation(
    batch.episode_returns,
    batch.episode_lengths,
    batch.episode_terms,
    diverged=len(batch.diverged),
  )
  return found, batch
