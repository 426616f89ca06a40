"""The vine (section 5.2), for every simulator that can clone its states.

Trunks are the paths of single-path sampling. N of their states are cloned
exactly. From each of these, branches try K first actions and then follow the
policy under M noise sequences, which the K actions share.
"""

import dataclasses
import math
from typing import Generic, NamedTuple, Protocol

import numpy as np

from trpo_tf.config import SamplerConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.actors import Actor
from trpo_tf.sampling.batch import Batch, Divergence, End, VineBatch
from trpo_tf.sampling.draws import Draws
from trpo_tf.sampling.sampler import PathSampler, States
from trpo_tf.tasks.actions import ActionSpace

__all__ = [
  'BranchFailure',
  'BranchResults',
  'BranchSteps',
  'VineBackend',
  'VineSampler',
]

_MAX_ACTIONS = 64  # tried in each state by --branch_proposal=all


class BranchFailure(NamedTuple):
  """A branch whose simulation diverged.

  Attributes:
    branch: its state n, action k and trial m.
    causes, message, state, controls, header: see Divergence.
  """

  branch: tuple[int, int, int]
  causes: tuple[str, ...]
  message: str
  state: np.ndarray
  controls: np.ndarray
  header: tuple[str, ...] = ()


class BranchSteps(NamedTuple):
  """The steps of N x K x M branches, before each action.

  Attributes:
    observations: [N, K, M, L, ...].
    actions: [N, K, M, L, A].
    outputs: float32 [N, K, M, L, ...], of the policy; those of first steps are
      not used.
    rewards: float64 [N, K, M, L].
  """

  observations: np.ndarray
  actions: np.ndarray
  outputs: np.ndarray
  rewards: np.ndarray


class BranchResults(NamedTuple):
  """The results of N x K x M branches; see VineBatch.

  Attributes:
    returns: float64 [N, K, M].
    lengths: int32 [N, K, M].
    ends: uint8 [N, K, M].
    final_observations: [N, K, M, ...].
    failures: the first MAX_RECORDED branches that diverged, in order.
    deaths: causes of worker crashes.
    steps: the steps, if the back end keeps them.
  """

  returns: np.ndarray
  lengths: np.ndarray
  ends: np.ndarray
  final_observations: np.ndarray
  failures: tuple[BranchFailure, ...] = ()
  deaths: tuple[str, ...] = ()
  steps: BranchSteps | None = None


class VineBackend(Protocol[States]):
  """The interface to a simulator that the vine needs."""

  @property
  def batch_type(self) -> type[VineBatch]:
    """The class of the batches."""

  @property
  def paths(self) -> PathSampler[States]:
    """The sampler of the trunks."""

  def close(self) -> None:
    """Stops what trunks and branches started; see Sampler."""

  def branch(
    self,
    states: States,
    first_actions: np.ndarray,
    noise: np.ndarray,
    theta: np.ndarray,
    normalizer: Normalizer,
  ) -> BranchResults:
    """Runs every branch to its end or to its maximum length L.

    Args:
      states: the N states that `sample_with_states` of `paths` returned.
      first_actions: [N, K, A].
      noise: float64 [N, M, L, A]; row [n, m] belongs to all K branches of
        state n, and its first entry is not used.
      theta: float32 [P], the policy.
      normalizer: normaliser of observations, frozen for the batch.
    """


class VineSampler(Generic[States]):
  """A sampler of batches of trunks and branches.

  Attributes:
    backend: simulates them.
  """

  def __init__(
    self, backend: VineBackend[States], config: SamplerConfig, seed: int
  ):
    """Builds the sampler of a back end whose trunks begin with a reset.

    Args:
      backend: simulates trunks and branches.
      config: settings of trunks, rollout set and branches.
      seed: seed of the run.

    Raises:
      UserError: the proposal cannot draw from the task's actions.
    """
    paths = backend.paths
    _check_proposal(paths.name, config.branch_proposal, paths.action_space)
    self.backend, self._config, self._seed = backend, config, seed

  def state(self) -> dict[str, np.ndarray]:
    """Returns what the next batch depends on; see Sampler."""
    return self.backend.paths.state()

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from a state; see Sampler."""
    self.backend.paths.restore(state)

  def close(self) -> None:
    """Stops what the sampler started; see Sampler."""
    self.backend.close()

  def sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool = False,
  ) -> VineBatch:
    """Collects batch_steps env steps of trunks and N x K x M branches.

    See Sampler for the arguments. `deterministic` must be False, as the vine
    compares sampled actions.
    """
    if deterministic:
      raise ValueError('a vine has no deterministic batches: sample paths')
    config, paths = self._config, self.backend.paths
    draw = Draws(self._seed, iteration)
    steps = config.batch_steps // config.num_slots
    rollout_set = draw.rollout_set(
      config.num_slots, steps, config.rollout_set_size
    )
    trunks, states = paths.sample_with_states(
      theta, normalizer, iteration, rollout_set
    )
    actor, space = paths.actor(theta), paths.action_space
    outputs = trunks.outputs[tuple(rollout_set.T)]
    first_actions, log_q = draw.first_actions(
      config.branch_proposal, actor, space, outputs, config.branch_actions
    )
    shape = len(rollout_set), config.branch_trials, config.branch_length
    noise = draw.branch_noise(actor.draw, (*shape, space.size))
    found = self.backend.branch(states, first_actions, noise, theta, normalizer)
    diverged = tuple(
      _divergence(failure, trunks, rollout_set, iteration)
      for failure in found.failures
    )
    branches = None
    if found.steps is not None:
      branches = _branch_batch(trunks, rollout_set, found, actor)
      if config.on_divergence == 'drop':
        whole = (found.ends & End.DIVERGED == 0).reshape(-1, 1)
        branches = dataclasses.replace(branches, kept=branches.kept & whole)
    fields = vars(trunks) | dict(
      rollout_set=rollout_set,
      first_actions=first_actions,
      log_q=log_q,
      branch_returns=found.returns,
      branch_lengths=found.lengths,
      branch_ends=found.ends,
      final_observations=found.final_observations,
      branches=branches,
      diverged=trunks.diverged + diverged,
      deaths=trunks.deaths + found.deaths,
    )
    return self.backend.batch_type(**fields)


def _check_proposal(name: str, proposal: str, space: ActionSpace) -> None:
  """Raises UserError where q cannot draw from the action space."""
  if proposal == 'uniform' and not space.bounded:
    raise UserError(
      f'{name}: --branch_proposal=uniform needs bounded actions (a ctrlrange '
      'on every actuator of a model) with low < high; use '
      '--branch_proposal=policy'
    )
  if proposal == 'antithetic' and space.factors:
    raise UserError(
      f'{name}: --branch_proposal=antithetic mirrors actions at their mean, '
      'which discrete actions do not have; use --branch_proposal=policy'
    )
  if proposal != 'all':
    return
  if not space.factors:
    raise UserError(
      f'{name}: --branch_proposal=all needs discrete actions; use policy or '
      'uniform'
    )
  count = math.prod(space.factors)
  if count > _MAX_ACTIONS:
    raise UserError(
      f'{name}: --branch_proposal=all would try {count} actions in each state, '
      f'at most {_MAX_ACTIONS} are possible; use policy or uniform'
    )


def _branch_batch(
  trunks: Batch, rollout_set: np.ndarray, found: BranchResults, actor: Actor
) -> Batch:
  """Puts the steps of every branch into a slot of its own, in order.

  A branch that diverged ends at its last finite state, as a trunk does. It is
  left out if its trunk was dropped.
  """
  assert found.steps is not None
  roots = tuple(rollout_set.T)
  per_state = math.prod(found.ends.shape[1:])
  count, horizon = found.ends.size, found.steps.rewards.shape[-1]

  def of_branches(field: np.ndarray) -> np.ndarray:
    """Repeats a field [S, T, ...] of the trunks' steps: [B, ...]."""
    return np.repeat(field[roots], per_state, axis=0)

  steps = {
    name: field.reshape(count, horizon, *field.shape[4:])
    for name, field in found.steps._asdict().items()
  }
  steps['outputs'][:, 0] = of_branches(trunks.outputs)
  lengths, last = (
    found.lengths.ravel(),
    np.maximum(found.lengths.ravel(), 1) - 1,
  )
  taken = np.arange(horizon) < lengths[:, np.newaxis]
  ends = np.where(np.arange(horizon) == last[:, np.newaxis], 1, 0) * taken
  ends = (ends * found.ends.reshape(-1, 1)).astype(np.uint8)
  finals = found.final_observations.reshape(
    count, *found.final_observations.shape[3:]
  )
  cut = np.flatnonzero(found.ends.ravel() == End.TRUNCATED)
  log_probs = np.where(
    taken, actor.log_prob(steps['outputs'], steps['actions']), 0
  )
  return dataclasses.replace(
    trunks,
    **steps,
    log_probs=log_probs.astype(np.float32),
    ends=ends,
    timesteps=(
      of_branches(trunks.timesteps)[:, np.newaxis] + np.arange(horizon)
    ).astype(np.int32),
    lengths=lengths,
    kept=taken & of_branches(trunks.kept)[:, np.newaxis],
    last_observations=finals,
    boundary_index=np.stack([cut, last[cut]], axis=1).astype(np.int32),
    boundary_observations=finals[cut],
    episode_returns=np.zeros(0),
    episode_lengths=np.zeros(0, np.int32),
    episode_terms={},
    diverged=(),
    deaths=(),
  )


def _divergence(
  failure: BranchFailure,
  trunks: Batch,
  rollout_set: np.ndarray,
  iteration: int,
) -> Divergence:
  slot, step = map(int, rollout_set[failure.branch[0]])
  before = int(trunks.timesteps[slot, step])
  return Divergence(
    iteration=iteration,
    slot=slot,
    episode=0,
    step=before + len(failure.controls) - 1,
    **failure._asdict(),
  )
