"""What a step of simulation is worth: estimators at a frozen policy.

A policy and its value network are stopped in the middle of training. From one
batch an estimator takes one trust-region step. Its quality is the cosine, in
the metric of the Fisher matrix, between that step and a natural gradient from
many more steps. The steps are those of training, with the same code.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trpo_tf.benchmarks import estimators_list
from trpo_tf.benchmarks.estimators_list import Estimator
from trpo_tf.config import EstimatorConfig, ExperimentConfig, SamplerConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation import surrogate
from trpo_tf.experiment import saved_runs
from trpo_tf.experiment.backend import Atari, Backend, make_sampler
from trpo_tf.experiment.checkpoint import Checkpoint
from trpo_tf.experiment.trained import load_policy
from trpo_tf.methods.registry import make_learner
from trpo_tf.methods.surrogate_learner import SurrogateLearner
from trpo_tf.optim import blocks, conjugate_gradient, fisher
from trpo_tf.optim.problem import make_problem
from trpo_tf.policies import graphs
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Policy

__all__ = [
  'FrozenRun',
  'Quality',
  'Reference',
  'load',
  'measure',
]

_REFERENCE_SEED = 10_000  # added to the run's seed, so that no draw is shared
_MEASURE_SEED = 20_000
_CHUNK = 20_000  # env steps of the reference that are differentiated together
_FISHER_STATES = 20_000
_TEACH_SEED = 30_000
_TEACH = 10  # batches that teach A_phi before the first that counts
_BURN_IN = 2  # batches before the first that counts: slots begin with a reset


class FrozenRun(NamedTuple):
  """A policy and its value network in the middle of training.

  Attributes:
    backend: the task with the settings of the run.
    policy: shape of the policy.
    theta: float32 [P], its parameters.
    normalizer: frozen normaliser of observations.
    learner: state of the learner: the value network.
    env_steps: env steps that it was trained for.
  """

  backend: Backend
  policy: Policy
  theta: np.ndarray
  normalizer: Normalizer
  learner: dict[str, Any]
  env_steps: int

  @property
  def config(self) -> ExperimentConfig:
    """The settings of the run."""
    return self.backend.config


def load(run_dir: str) -> FrozenRun:
  """Loads the newest checkpoint of a run.

  Args:
    run_dir: directory of the run.

  Returns:
    The FrozenRun.

  Raises:
    UserError: there is no such run or checkpoint, or its settings have no value
      network and no step on a surrogate.
  """
  trained = load_policy(run_dir)
  config = trained.config
  if config.estimator.baseline != 'value_network':
    raise UserError(f'{run_dir}: estimators need --baseline=value_network')
  if config.method.method != 'trpo' or isinstance(trained.backend, Atari):
    raise UserError(
      f'{run_dir}: estimators are compared on runs of --method=trpo outside '
      'of Atari'
    )

  def accept(saved: Checkpoint) -> None:
    if saved.path != trained.checkpoint:
      raise UserError('the policy is of another checkpoint')

  saved = saved_runs.load_checkpoint(run_dir, accept)
  if 'learner' not in saved.state:
    raise UserError(
      f'{run_dir} holds a policy without its value network, as export writes '
      'it: take the run that it was exported from'
    )
  learner = {'baseline': saved.state['learner']['baseline']}
  return FrozenRun(
    trained.backend,
    trained.policy,
    trained.theta,
    trained.normalizer,
    learner,
    trained.env_steps,
  )


class Quality(NamedTuple):
  """The quality of an estimator.

  Attributes:
    env_steps: env steps of a batch, branches included, mean over batches.
    cosines: the quality of each batch; 0 for a refused step.
    taught_steps: env steps of the earlier batches that A_phi is fitted to.
  """

  env_steps: float
  cosines: list[float]
  taught_steps: int = 0


class Reference:
  """A natural gradient from many steps of paths, and the Fisher matrix.

  Attributes:
    split_half: cosine between the natural gradients of two halves.
    limit: cosine that a perfect step would have with the reference, by
      Spearman and Brown's formula.
  """

  def __init__(self, run: FrozenRun, steps: int):
    """Samples paths and solves for the natural gradient.

    Args:
      run: the policy with its value network.
      steps: env steps.
    """
    settings = dataclasses.replace(run.config.estimator, gae_lambda=1.0)
    sampler = SamplerConfig(batch_steps=_CHUNK, num_slots=estimators_list.SLOTS)
    config = _config(run, sampler, settings, _REFERENCE_SEED)
    learner, batches = _learner(run, config), _batches(run, config)
    gradient = _gradient(run)
    count = max(2, steps // _CHUNK)
    gradients, states = [], []
    for _, batch in zip(range(count), batches, strict=False):
      given = learner.estimate(
        run.theta, run.learner, run.normalizer, batch
      ).given
      x = given.x
      gradients.append(gradient(run.theta, x, given.data).numpy())
      states.append(x[:: max(1, len(x) * count // _FISHER_STATES)])
    rows = np.concatenate(states)
    self._product = _fisher(run, rows)
    solve = lambda g: self._solve(np.mean(g, axis=0), config)
    self._direction = solve(gradients)
    # every second chunk would meet other phases of equally long episodes
    first, second = (
      solve(gradients[: count // 2]),
      solve(gradients[count // 2 :]),
    )
    self.split_half = self._cosine(first, second)
    r = max(self.split_half, 0.0)
    self.limit = float(np.sqrt(2 * r / (1 + r)))

  def _solve(self, gradient: np.ndarray, config: ExperimentConfig):
    settings = config.trust_region
    return conjugate_gradient.conjugate_gradient(
      lambda v: self._product(v) + settings.cg_damping * v,
      tf.constant(gradient),
      settings.cg_iterations,
    ).solution.numpy()

  def _cosine(self, a: np.ndarray, b: np.ndarray) -> float:
    fa, fb = (self._product(tf.constant(v)).numpy() for v in (a, b))
    norm = np.sqrt(a @ fa) * np.sqrt(b @ fb)
    return float(a @ fb / norm) if norm > 0 else 0.0

  def quality(self, step: np.ndarray) -> float:
    """Returns the cosine of a step float64 [P] with the reference."""
    return self._cosine(step, self._direction)


def _config(
  run: FrozenRun,
  sampler: SamplerConfig,
  estimator: EstimatorConfig,
  seed: int,
) -> ExperimentConfig:
  """Returns the run's settings with another sampler, estimator and seed."""
  return dataclasses.replace(
    run.config.reseeded((run.config.run.seed + seed) % 2**31),
    sampler=dataclasses.replace(
      sampler, sampler_threads=run.config.sampler.sampler_threads
    ),
    estimator=estimator,
  )


def _learner(run: FrozenRun, config: ExperimentConfig) -> SurrogateLearner:
  learner = make_learner(run.policy, config)
  assert isinstance(learner, SurrogateLearner)
  return learner


def _batches(run: FrozenRun, config: ExperimentConfig) -> Iterator[Any]:
  """Yields batches of the frozen policy, after a few that are not used."""
  sampler = make_sampler(run.backend.configured(config))
  iteration = 0
  while True:
    batch = sampler.sample(run.theta, run.normalizer, iteration)
    iteration += 1
    if iteration > _BURN_IN:
      yield batch


def _gradient(run: FrozenRun) -> Any:
  """Compiles the gradient of the surrogate of equation 14, float64 [P]."""

  def gradient(theta, x, data):
    return make_problem(
      run.policy,
      surrogate.importance_sampled,
      theta,
      x,
      data,
      blocks.num_blocks(_CHUNK),
    ).gradient

  return graphs.compile_any_batch(gradient, fixed=1)


def _fisher(run: FrozenRun, x: np.ndarray) -> Any:
  """Compiles products with the Fisher matrix on some states."""
  theta, states = tf.constant(run.theta), tf.constant(x)

  @tf.function(input_signature=[tf.TensorSpec([len(run.theta)], tf.float64)])
  def product(v):
    linearized = fisher.linearize(
      run.policy, theta, states, blocks.num_blocks(len(x))
    )
    return fisher.product(run.policy, linearized, v)

  return product


def measure(
  run: FrozenRun, estimator: Estimator, reference: Reference, batches: int
) -> Quality:
  """Takes steps from independent batches of the frozen policy.

  Args:
    run: the policy with its value network.
    estimator: how a step is made.
    reference: what it is compared with.
    batches: how many.

  Returns:
    The Quality.
  """
  config = _config(run, estimator.sampler, estimator.estimator, _MEASURE_SEED)
  learner = _learner(run, config)
  zeros = learner.initial_state(run.theta, np.random.default_rng(0))
  state = zeros | run.learner
  taught_steps = 0
  if estimator.estimator.amortized_advantage:
    state, taught_steps = _taught(run, estimator, learner, state)
  cosines, costs = [], []
  for i, batch in zip(range(batches), _batches(run, config), strict=False):
    update = learner.update(run.theta, state, run.normalizer, batch, i)
    # control variates go on, and the value network stays
    state = update.state | run.learner
    step = update.theta.astype(np.float64) - run.theta
    cosines.append(reference.quality(step))
    costs.append(batch.num_steps)
  return Quality(float(np.mean(costs)), cosines, taught_steps)


def _taught(
  run: FrozenRun,
  estimator: Estimator,
  learner: SurrogateLearner,
  state: dict[str, Any],
) -> tuple[dict[str, Any], int]:
  """Returns the state with A_phi fitted to other batches, and their steps."""
  config = _config(run, estimator.sampler, estimator.estimator, _TEACH_SEED)
  steps = 0
  for _, batch in zip(range(_TEACH), _batches(run, config), strict=False):
    found = learner.estimate(run.theta, state, run.normalizer, batch)
    assert found.amortized is not None
    state = state | {'amortized': found.amortized._asdict()}
    steps += batch.num_steps
  return state, steps
