"""The training loop as a generator: sample, update, tell.

It reads no flags and writes no files: binaries and tests consume the
iterations it yields and may stop after any of them.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.experiment import assembly
from trpo_tf.methods.trpo import Trpo, Update
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch
from trpo_tf.seeding import Stream


def _fields(record: Any) -> dict[str, Any]:
  return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


@dataclasses.dataclass(frozen=True)
class TrainingState:
  """All that the rest of a run depends on, beside its settings.

  Attributes:
    iteration: iterations done.
    env_steps: env steps simulated.
    episodes: episodes ended.
    elapsed_seconds: spent training, over all sessions.
    theta: float32 [P], the policy.
    normalizer: of observations, for the next batch.
    baseline: state of the baseline, a NamedTuple of arrays.
    sampler: state of the sampler, a tree of arrays.
  """

  iteration: int
  env_steps: int
  episodes: int
  elapsed_seconds: float
  theta: np.ndarray
  normalizer: Normalizer
  baseline: Any
  sampler: dict[str, Any]

  def tree(self) -> dict[str, Any]:
    """The state as nested dicts of arrays and numbers, for a checkpoint."""
    return _fields(self) | {
      'normalizer': _fields(self.normalizer),
      'baseline': self.baseline._asdict(),
    }

  @classmethod
  def from_tree(
    cls, tree: dict[str, Any], baseline_type: Callable[..., Any]
  ) -> 'TrainingState':
    """The state that `tree` gave, with the baseline's own type of state."""
    return cls(**tree | {
      'normalizer': Normalizer(**tree['normalizer']),
      'baseline': baseline_type(**tree['baseline']),
    })


@dataclasses.dataclass(frozen=True)
class Iteration:
  """One iteration of a run.

  Attributes:
    state: after the iteration.
    record: the numbers of sinks.COLUMNS.
    histograms: arrays by name.
    batch: what was sampled.
  """

  state: TrainingState
  record: dict[str, Any]
  histograms: dict[str, np.ndarray]
  batch: Batch


class Training:
  """A run: a sampler and a learner, and the state between iterations."""

  def __init__(
    self, config: ExperimentConfig, saved: dict[str, Any] | None = None
  ):
    """Builds the run, from its beginning or from a saved state's tree.

    Raises:
      UserError: a task, sampler or method that cannot be built.
    """
    self.config = config
    self.policy = assembly.make_policy(config)
    self.sampler = assembly.make_sampler(config)
    self.learner = Trpo(self.policy, config)
    self.state = self._initial_state()
    if saved is not None:
      kind = type(self.state.baseline)
      self.state = TrainingState.from_tree(saved, kind)
      self.sampler.restore(self.state.sampler)

  def _initial_state(self) -> TrainingState:
    seed = self.config.run.seed
    return TrainingState(
      iteration=0,
      env_steps=0,
      episodes=0,
      elapsed_seconds=0.0,
      theta=self.policy.initial_parameters(
        seeding.generator(seed, Stream.INITIAL_POLICY)
      ),
      normalizer=assembly.make_normalizer(self.config, self.policy),
      baseline=self.learner.initial_baseline(
        seeding.generator(seed, Stream.INITIAL_VALUE)
      ),
      sampler=self.sampler.state(),
    )

  def iterations(self) -> Iterator[Iteration]:
    """Runs until total_env_steps are reached."""
    while self.state.env_steps < self.config.run.total_env_steps:
      yield self._iterate()

  def _iterate(self) -> Iteration:
    old, begin = self.state, time.perf_counter()
    batch = self.sampler.sample(old.theta, old.normalizer, old.iteration)
    sampled = time.perf_counter()
    update = self.learner.update(
      old.theta, old.baseline, old.normalizer, batch, old.iteration
    )
    normalizer = old.normalizer.update(batch.flat('observations'))
    end = time.perf_counter()
    self.state = TrainingState(
      iteration=old.iteration + 1,
      env_steps=old.env_steps + batch.num_steps,
      episodes=old.episodes + len(batch.episode_returns),
      elapsed_seconds=old.elapsed_seconds + end - begin,
      theta=update.theta,
      normalizer=normalizer,
      baseline=update.baseline,
      sampler=self.sampler.state(),
    )
    record = dict(
      iteration=self.state.iteration,
      env_steps=self.state.env_steps,
      episodes=self.state.episodes,
      **_episode_record(batch),
      **update.record,
      clipped_action_fraction=batch.clipped_fraction,
      diverged=batch.num_diverged,
      dropped_steps=int(batch.lengths.sum() - batch.kept.sum()),
      branch_steps=batch.num_branch_steps,
      sample_seconds=sampled - begin,
      update_seconds=end - sampled,
      env_steps_per_second=batch.num_steps / (end - begin),
      elapsed_seconds=self.state.elapsed_seconds,
    )
    return Iteration(self.state, record, _histograms(batch, update), batch)


def _episode_record(batch: Batch) -> dict[str, float]:
  """Statistics of the episodes that ended; NaN where none did."""
  returns = batch.episode_returns
  if not returns.size:
    names = ('return_mean', 'return_std', 'return_min', 'return_max',
             'episode_length_mean')
    return dict.fromkeys(names, float('nan'))
  return dict(
    return_mean=float(returns.mean()),
    return_std=float(returns.std()),
    return_min=float(returns.min()),
    return_max=float(returns.max()),
    episode_length_mean=float(batch.episode_lengths.mean()),
  )


def _histograms(batch: Batch, update: Update) -> dict[str, np.ndarray]:
  return dict(
    returns=batch.episode_returns,
    actions=batch.flat('actions').ravel(),
    advantages=update.advantages,
  )
