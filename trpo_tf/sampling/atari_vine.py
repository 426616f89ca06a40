"""The vine (section 5.2) on Atari games.

The same batches, streams and draws as `vine`: trunks are the paths of
AtariSampler, and from N of their states, emulators with their generators,
branches try K first actions each and follow the policy for M noise sequences
that the K actions share. With sticky actions all branches of a state share the
emulator's draws too.
"""

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import SamplerConfig
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling import vine_draws
from trpo_tf.sampling.atari_batch import AtariVineBatch
from trpo_tf.sampling.atari_branches import (
  BranchInputs,
  BranchRecords,
  BranchRun,
)
from trpo_tf.sampling.atari_frames import extend
from trpo_tf.sampling.atari_sampler import AtariSampler
from trpo_tf.sampling.atari_stacks import PolicyOutputs
from trpo_tf.sampling.numpy_policy import CategoricalActor
from trpo_tf.seeding import Stream
from trpo_tf.tasks.atari import Game

__all__ = ['AtariVineSampler']


class AtariVineSampler:
  """Batches of trunks and branches in one game.

  Attributes:
    game: what is played.
  """

  def __init__(self, game: Game, config: SamplerConfig,
               outputs: PolicyOutputs, seed: int, gamma: float):
    """Starts the workers, each trunk at the start of its first episode.

    Args:
      game: what is played.
      config: trunks, rollout set, branches, and as threads the worker
        processes.
      outputs: the policy, called with the stacks of half of the slots.
      seed: the run's.
      gamma: discount of a branch's return.
    """
    self.game, self._config, self._outputs = game, config, outputs
    self._seed, self._gamma = seed, gamma
    self._actor = CategoricalActor(game.factors)
    self._trunks = AtariSampler(game, config, outputs, seed)

  @property
  def process_ids(self) -> list[int]:
    """Of the workers."""
    return self._trunks.process_ids

  def close(self) -> None:
    """Ends the workers, as AtariSampler does."""
    self._trunks.close()

  def state(self) -> dict[str, np.ndarray]:
    """What the next batch depends on, beside theta."""
    return self._trunks.state()

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from `state`, as AtariSampler does."""
    self._trunks.restore(state)

  def sample(self, theta: np.ndarray, normalizer: Normalizer | None,
             iteration: int) -> AtariVineBatch:
    """Collects one batch.

    Args:
      theta: float32 [P], the policy.
      normalizer: not used, frames are not normalised.
      iteration: key of all draws.

    Returns:
      The batch: batch_steps env steps of trunks, and those of N x K x M
      branches.

    Raises:
      RuntimeError: workers died again and again; with the causes.
    """
    del normalizer
    config = self._config
    places = vine_draws.draw_states(
      self._seed, iteration, config.num_slots,
      config.batch_steps // config.num_slots, config.rollout_set_size,
    )
    trunk, states = self._trunks.sample_with_snapshots(theta, iteration, places)
    index = tuple(places.T)
    actions, log_q = self._propose(trunk.outputs[index], iteration)
    shape = (len(places), config.branch_trials, config.branch_length,
             len(self.game.factors))
    inputs = BranchInputs(
      theta, states, trunk.frames, trunk.observations[index], actions,
      vine_draws.branch_noise(self._seed, iteration, shape, self._actor.draw),
      self._gamma, config.branch_time_limit,
    )
    records, deaths = self._trunks.pool.persist(
      lambda: self._branch(inputs), lambda: None
    )
    extend(trunk.frames, records.new_frames())
    fields = vars(trunk) | records.fields()
    fields['deaths'] = trunk.deaths + deaths
    return AtariVineBatch(**fields, rollout_set=places, first_actions=actions,
                          log_q=log_q)

  def _branch(self, inputs: BranchInputs) -> BranchRecords:
    """Runs the branches in the trunks' emulators; raises WorkerDied."""
    records = BranchRun(
      self.game, self._trunks.pool, self._outputs, inputs
    ).run()
    self._trunks.restore(self._trunks.state())
    return records

  def _propose(self, outputs: np.ndarray,
               iteration: int) -> tuple[np.ndarray, np.ndarray]:
    """First actions [N, K, A] and their log-probability [N, K] under q."""
    rng = seeding.generator(self._seed, Stream.BRANCH_ACTIONS, iteration)
    return vine_draws.choices(
      rng, self._config.branch_proposal, self._actor, self.game.factors,
      outputs, self._config.branch_actions,
    )
