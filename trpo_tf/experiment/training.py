"""The training loop as a generator of iterations.

It reads no flags and writes no files. Binaries and tests consume the iterations
that it yields and may stop after any of them.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.experiment import backend as backend_lib
from trpo_tf.experiment import (
  evaluation,
  evaluations,
  memory,
  saved_runs,
  state_tree,
  warm_start,
)
from trpo_tf.experiment.backend import Backend
from trpo_tf.experiment.evaluations import Evaluated
from trpo_tf.methods.learner import Learner
from trpo_tf.methods.record import IterationRecord
from trpo_tf.methods.registry import make_learner
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Policy
from trpo_tf.sampling.batch import Batch
from trpo_tf.sampling.sampler import Sampler
from trpo_tf.sampling.summary import Summary
from trpo_tf.seeding import Stream


def _fields(record: Any) -> dict[str, Any]:
  return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


@dataclasses.dataclass(frozen=True)
class TrainingState:
  """Everything that the rest of a run depends on, besides its settings.

  Attributes:
    iteration: iterations done.
    env_steps: env steps simulated.
    episodes: episodes ended.
    elapsed_seconds: seconds spent training, over all sessions.
    theta: float32 [P], the policy.
    normalizer: normaliser of observations, for the next batch.
    learner: state of the method, a tree of arrays.
    sampler: state of the sampler, a tree of arrays.
  """

  iteration: int
  env_steps: int
  episodes: int
  elapsed_seconds: float
  theta: np.ndarray
  normalizer: Normalizer
  learner: dict[str, Any]
  sampler: dict[str, Any]

  def tree(self) -> dict[str, Any]:
    """Returns nested dicts of arrays and numbers, for a checkpoint."""
    return _fields(self) | {'normalizer': _fields(self.normalizer)}

  @classmethod
  def from_tree(cls, tree: dict[str, Any]) -> 'TrainingState':
    """Builds the state from what `tree` returned."""
    return cls(**tree | {'normalizer': Normalizer(**tree['normalizer'])})


@dataclasses.dataclass(frozen=True)
class Iteration:
  """One iteration of a run.

  Attributes:
    state: the state after the iteration.
    record: the numbers of the iteration.
    histograms: arrays by name, of any shape.
    summary: counts and statistics of the batch.
    batch: the batch that was sampled.
    evaluated: the evaluation after the iteration; None if none was due.
  """

  state: TrainingState
  record: IterationRecord
  histograms: dict[str, np.ndarray]
  summary: Summary
  batch: Batch
  evaluated: Evaluated | None = None

  def __repr__(self) -> str:
    """One line, as a notebook shows it: the numbers that training prints."""
    names = ('iteration', 'env_steps', 'return_mean', 'mean_kl')
    found = (f'{name}={getattr(self.record, name):.6g}' for name in names)
    return f'Iteration({", ".join(found)})'

  @property
  def terms(self) -> dict[str, float]:
    """Mean sum of each reward term over the episodes that ended, by name."""
    episodes = self.summary.episodes
    return (
      {name: float(sums.mean) for name, sums in episodes.terms.items()}
      if episodes.number
      else {}
    )


def _whole(backend: Backend, policy: Policy) -> tuple[Sampler, Learner]:
  """Makes the sampler and the learner of a run in one part."""
  config = backend.config
  if config.sampler.num_shards > 1:
    raise ValueError(
      'use trpo_tf.distributed for a run that is cut into shards'
    )
  memory.check(backend)
  return backend_lib.make_sampler(backend), make_learner(policy, config)


# makes the sampler and the learner of a task and a policy
MakeParts = Callable[[Backend, Policy], tuple[Sampler, Learner]]


class Training:
  """A run: a sampler, a learner and the state between iterations."""

  def __init__(
    self,
    config: ExperimentConfig,
    saved: dict[str, Any] | None = None,
    make_parts: MakeParts = _whole,
  ):
    """Builds the run, at its beginning or from a saved state.

    Args:
      config: the experiment.
      saved: the tree of a saved state; None: begin anew.
      make_parts: makes the sampler and the learner; see distributed.training
        for runs that are cut into shards.

    Raises:
      UserError: the task, the sampler or the method cannot be built, or the run
        needs more memory than there is.
    """
    self.config = config
    self.backend = backend_lib.resolve(config)
    self.policy = self.backend.policy()
    evaluation.check(self.backend)
    self.sampler, self.learner = make_parts(self.backend, self.policy)
    self.state = self._initial_state()
    # what ends the run early; recording restores both when a run continues
    self.solved, self.refused_steps = False, 0
    if saved is not None:
      self.resume(saved)
    elif config.run.init_from:
      self._begin_from_another_run()

  def resume(self, saved: dict[str, Any]) -> None:
    """Continues from the tree of a saved state.

    Raises:
      ValueError: the tree is of another version or of other settings. The run
        stands at its beginning, or where it stood before.
    """
    fresh = self._initial_state()
    _check(saved, fresh.tree())
    self.sampler.restore(saved['sampler'])
    self.state = TrainingState.from_tree(saved)

  def _initial_state(self) -> TrainingState:
    seed = self.config.run.seed
    theta = self.policy.initial_parameters(
      seeding.generator(seed, Stream.INITIAL_POLICY)
    )
    return TrainingState(
      iteration=0,
      env_steps=0,
      episodes=0,
      elapsed_seconds=0.0,
      theta=theta,
      normalizer=self.backend.normalizer(),
      learner=self.learner.initial_state(
        theta, seeding.generator(seed, Stream.INITIAL_VALUE)
      ),
      sampler=self.sampler.state(),
    )

  def _begin_from_another_run(self) -> None:
    """Begins where --init_from ended, unless the directory has a checkpoint."""
    run = self.config.run
    if run.run_dir and saved_runs.has_checkpoint(run.run_dir):
      return
    begun = warm_start.load(self.config, self.state.tree())
    self.state = TrainingState.from_tree(begun)

  def iterations(self) -> Iterator[Iteration]:
    """Runs iterations until the run is finished, and yields each of them.

    Raises:
      UserError: --max_refused_steps were refused in a row.
    """
    while not self.finished:
      most = self.config.run.max_refused_steps
      if 0 < most <= self.refused_steps:
        raise UserError(
          f'{self.refused_steps} steps in a row were refused: '
          'docs/troubleshooting.md says what to try; to go on nevertheless, '
          'raise --max_refused_steps'
        )
      yield self._iterate()

  @property
  def finished(self) -> bool:
    """Whether the run has all its steps or iterations, or --stop_at_return."""
    run, state = self.config.run, self.state
    return (
      state.env_steps >= run.total_env_steps
      or 0 < run.total_iterations <= state.iteration
      or self.solved
    )

  def _iterate(self) -> Iteration:
    old, begin = self.state, time.perf_counter()
    batch = self.learner.sample(
      self.sampler, old.theta, old.learner, old.normalizer, old.iteration
    )
    sampled = time.perf_counter()
    update = self.learner.update(
      old.theta, old.learner, old.normalizer, batch, old.iteration
    )
    normalizer = old.normalizer
    if normalizer.enabled and self._normalizer_learns(old.iteration):
      normalizer = normalizer.merge(batch.observation_moments())
    end = time.perf_counter()
    summary = batch.summary()
    self.state = TrainingState(
      iteration=old.iteration + 1,
      env_steps=old.env_steps + summary.env_steps,
      episodes=old.episodes + summary.episodes.number,
      elapsed_seconds=old.elapsed_seconds + end - begin,
      theta=update.theta,
      normalizer=normalizer,
      learner=update.state,
      sampler=self.sampler.state(),
    )
    record = dataclasses.replace(
      update.record,
      iteration=self.state.iteration,
      env_steps=self.state.env_steps,
      episodes=self.state.episodes,
      **_batch_fields(summary),
      sample_seconds=sampled - begin,
      update_seconds=end - sampled,
      env_steps_per_second=summary.env_steps / (end - begin),
      elapsed_seconds=self.state.elapsed_seconds,
    )
    histograms = batch.histograms() | update.histograms
    evaluated = self._evaluate(old.env_steps)
    if evaluated:
      self.solved = evaluated.return_mean >= self.config.run.stop_at_return
    accepted = record.step_status == 'accepted'
    self.refused_steps = 0 if accepted else self.refused_steps + 1
    return Iteration(self.state, record, histograms, summary, batch, evaluated)

  def _evaluate(self, env_steps_before: int) -> Evaluated | None:
    """Evaluates the policy if the last iteration made it due."""
    every, state = self.config.run.eval_every_env_steps, self.state
    if not evaluations.is_due(every, env_steps_before, state.env_steps):
      return None
    return evaluation.in_training(
      self.backend,
      state.theta,
      state.normalizer,
      state.iteration,
      state.env_steps,
    )

  def _normalizer_learns(self, iteration: int) -> bool:
    count = self.config.policy.normalizer_iterations
    return count == 0 or iteration < count


def _check(saved: dict[str, Any], fresh: dict[str, Any]) -> None:
  """Raises ValueError unless a saved tree has the structure of a fresh one."""
  if not isinstance(saved.get('sampler'), dict):
    raise ValueError('state.sampler is missing')
  # the sampler checks its part itself
  like = fresh | {'sampler': saved['sampler']}
  state_tree.check_like(saved, like, 'state', state_tree.GROWING)
  state_tree.check_policy(saved, fresh)
  for name in ('iteration', 'episodes', 'elapsed_seconds'):
    if not 0 <= saved[name] < 2**63:
      raise ValueError(f'state.{name} is {saved[name]}')


def _batch_fields(summary: Summary) -> dict[str, Any]:
  """Returns the record's fields about the batch."""
  fields: dict[str, Any] = dict(
    clipped_action_fraction=float(summary.clipped.mean),
    diverged=summary.num_diverged,
    dropped_steps=summary.trunk_steps - summary.kept_steps,
    branch_steps=summary.branch_steps,
  )
  episodes = summary.episodes
  if episodes.number:
    fields |= dict(
      return_mean=float(episodes.returns.mean),
      return_std=float(episodes.returns.std),
      return_min=episodes.lowest,
      return_max=episodes.highest,
      episode_length_mean=float(episodes.lengths.mean),
    )
  return fields
