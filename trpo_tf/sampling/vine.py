"""The vine (section 5.2) on native tasks.

Trunks are the paths of single-path sampling. From N of their states, cloned
exactly, branches try K first actions each and follow the policy for M noise
sequences that the K actions share.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import SamplerConfig, TaskConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.mlp import MLP
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling import draws
from trpo_tf.sampling.batch import (
  MOST_RECORDED,
  Batch,
  Divergence,
  End,
  VineBatch,
)
from trpo_tf.sampling.native import state as native_state
from trpo_tf.sampling.native.branching import Actor, Brancher, Branches
from trpo_tf.sampling.native.paths import SinglePathSampler
from trpo_tf.seeding import Stream
from trpo_tf.tasks.task import CompiledTask


class VineSampler:
  """Batches of trunks and branches, for any native task."""

  def __init__(
    self,
    compiled: CompiledTask,
    task: TaskConfig,
    config: SamplerConfig,
    network: MLP,
    seed: int,
    gamma: float,
  ):
    """Makes the trunks, about to reset, and the branches' simulations.

    Args:
      compiled: the task.
      task: treatment of actions.
      config: trunks, rollout set and branches.
      network: shape of the policy network.
      seed: the run's.
      gamma: discount of a branch's return.

    Raises:
      UserError: a proposal that does not fit the task.
    """
    self._compiled, self._config, self._network = compiled, config, network
    self._seed, self._gamma = seed, gamma
    self._trunks = SinglePathSampler(compiled, task, config, network, seed)
    if config.branch_proposal == 'all':
      raise UserError(
        f'{compiled.task.name}: --branch_proposal=all needs discrete actions; '
        'use policy or uniform'
      )
    bounds = self._trunks.action_bounds
    if config.branch_proposal == 'uniform' and not np.isfinite(bounds).all():
      raise UserError(
        f'{compiled.task.name}: --branch_proposal=uniform needs a ctrlrange on '
        'every actuator; use --branch_proposal=policy'
      )
    self._brancher = Brancher(
      compiled,
      network,
      action_range=task.action_range,
      clip_actions=task.clip_actions,
      threads=config.sampler_threads,
    )

  def state(self) -> dict[str, np.ndarray]:
    """What the next batch depends on, beside theta and the normaliser."""
    return self._trunks.state()

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from `state`."""
    self._trunks.restore(state)

  def sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool = False,
  ) -> VineBatch:
    """Collects one batch.

    Args:
      theta: float32 [P], the policy.
      normalizer: frozen for the batch.
      iteration: key of all draws.
      deterministic: must be False.

    Returns:
      The batch: batch_steps env steps of trunks, and those of N x K x M
      branches.

    Raises:
      ValueError: deterministic is True.
      UserError: the task diverges all the time.
    """
    if deterministic:
      raise ValueError('a vine draws its actions: deterministic=False alone')
    config, seed = self._config, self._seed
    places = draws.draw_states(
      seed,
      iteration,
      config.num_slots,
      config.batch_steps // config.num_slots,
      config.rollout_set_size,
    )
    trunk, states = self._trunks.sample_with_snapshots(
      theta, normalizer, iteration, places
    )
    actions, log_q = self._propose(theta, trunk, places, iteration)
    noise = draws.branch_noise(
      seed,
      iteration,
      (
        len(places),
        config.branch_trials,
        config.branch_length,
        self._compiled.action_size,
      ),
    )
    inputs = _Inputs(
      states, actions, noise, Actor(self._network, theta, normalizer)
    )
    branches = self._branch(inputs)
    failed = np.argwhere(branches.ends & End.DIVERGED)[:MOST_RECORDED]
    records = tuple(
      self._divergence(
        inputs.only(n, k, m),
        iteration=iteration,
        branch=(n, k, m),
        slot=int(places[n, 0]),
        start=int(trunk.timesteps[tuple(places[n])]),
        causes=branches.causes(n, k, m),
        message=branches.messages.get((n, k, m), ''),
      )
      for n, k, m in failed.tolist()
    )
    batch = vine_batch(trunk, places, actions, log_q, branches)
    return dataclasses.replace(batch, diverged=trunk.diverged + records)

  def _propose(
    self, theta: np.ndarray, trunk: Batch, places: np.ndarray, iteration: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """First actions [N, K, A] and their log density [N, K] under q."""
    rng = seeding.generator(self._seed, Stream.BRANCH_ACTIONS, iteration)
    count = self._config.branch_actions
    if self._config.branch_proposal == 'uniform':
      low, high = self._trunks.action_bounds
      return draws.uniform_actions(rng, low, high, len(places), count)
    means = trunk.outputs[tuple(places.T)]
    log_std = theta[-self._compiled.action_size :]
    return draws.gaussian_actions(rng, means, log_std, count)

  def _branch(self, inputs: '_Inputs', trajectories: bool = False) -> Branches:
    return self._brancher.branch(
      inputs.states,
      inputs.actions,
      self._config.branch_length,
      inputs.actor,
      inputs.noise,
      gamma=self._gamma,
      trajectories=trajectories,
      time_limit=self._config.branch_time_limit,
    )

  def _divergence(
    self, inputs: '_Inputs', *, start: int, **keys: Any
  ) -> Divergence:
    """The record of a branch, run once more to learn its actions."""
    again = self._branch(inputs, trajectories=True)
    assert again.actions is not None
    length = again.lengths.item()
    row = native_state.row_size(self._compiled)
    return Divergence(
      episode=0,
      step=start + length,
      state=inputs.states[0, :row].copy(),
      controls=self._brancher.controls(again.actions[0, 0, 0, : length + 1]),
      **keys,
    )


class _Inputs(NamedTuple):
  """What the branches are a function of."""

  states: np.ndarray
  actions: np.ndarray
  noise: np.ndarray
  actor: Actor

  def only(self, n: int, k: int, m: int) -> '_Inputs':
    """Those of one branch."""
    return _Inputs(
      self.states[[n]],
      self.actions[[n], k : k + 1],
      self.noise[[n], m : m + 1],
      self.actor,
    )


def vine_batch(
  trunk: Batch,
  places: np.ndarray,
  actions: np.ndarray,
  log_q: np.ndarray,
  branches: Branches,
) -> VineBatch:
  """The batch of a trunk and its branches; it shares their memory.

  Args:
    trunk: the trunks.
    places: int32 [N, 2], the rollout set.
    actions: [N, K, A], first actions.
    log_q: float64 [N, K], their log-probability under the proposal.
    branches: what they earned.
  """
  fields = {f.name: getattr(trunk, f.name) for f in dataclasses.fields(trunk)}
  return VineBatch(
    **fields,
    rollout_set=places,
    first_actions=actions,
    log_q=log_q,
    branch_returns=branches.returns,
    branch_lengths=branches.lengths,
    branch_ends=branches.ends,
    final_observations=branches.final_observations,
  )
