"""The vine (section 5.2) on Atari games.

The same batches, streams and draws as `vine`: trunks are the paths of
AtariSampler, and from N of their states, emulators with their generators,
branches try K first actions each and follow the policy for M noise sequences
that the K actions share. With sticky actions all branches of a state share the
emulator's draws too.
"""

from collections.abc import Iterator

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import SamplerConfig
from trpo_tf.policies.conv import ConvNet
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling import draws
from trpo_tf.sampling.actors import CategoricalActor
from trpo_tf.sampling.atari.batch import AtariVineBatch
from trpo_tf.sampling.atari.frames import FrameStore, extend
from trpo_tf.sampling.atari.jobs import Branches, BranchJob
from trpo_tf.sampling.atari.paths import AtariSampler
from trpo_tf.seeding import Stream
from trpo_tf.tasks.atari import STACK, Game

__all__ = ['AtariVineSampler']


class AtariVineSampler:
  """Batches of trunks and branches in one game.

  Attributes:
    game: what is played.
  """

  def __init__(
    self,
    game: Game,
    config: SamplerConfig,
    network: ConvNet,
    seed: int,
    gamma: float,
  ):
    """Starts the workers.

    Args:
      game: what is played.
      config: trunks, rollout set, branches, and as threads the worker
        processes.
      network: the policy's; its outputs are logits.
      seed: the run's.
      gamma: discount of a branch's return.
    """
    self.game, self._config = game, config
    self._seed, self._gamma = seed, gamma
    self._actor = CategoricalActor(game.factors)
    self._trunks = AtariSampler(game, config, network, seed)

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

  def sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer | None,
    iteration: int,
    deterministic: bool = False,
  ) -> AtariVineBatch:
    """Collects one batch.

    Args:
      theta: float32 [P], the policy.
      normalizer: not used, frames are not normalised.
      iteration: key of all draws.
      deterministic: must be False.

    Returns:
      The batch: batch_steps env steps of trunks, and those of N x K x M
      branches.

    Raises:
      ValueError: deterministic is True.
      UserError: workers died again and again; with the causes.
    """
    if deterministic:
      raise ValueError('a vine draws its actions: deterministic=False alone')
    del normalizer
    config = self._config
    places = draws.draw_states(
      self._seed,
      iteration,
      config.num_slots,
      config.batch_steps // config.num_slots,
      config.rollout_set_size,
    )
    trunk, states = self._trunks.sample_with_snapshots(theta, iteration, places)
    index = tuple(places.T)
    actions, log_q = self._propose(trunk.outputs[index], iteration)
    shape = (
      len(places),
      config.branch_trials,
      config.branch_length,
      len(self.game.factors),
    )
    noise = draws.branch_noise(self._seed, iteration, shape, self._actor.draw)
    rows = trunk.observations[index]
    jobs = [
      BranchJob(*job, self._gamma, config.branch_time_limit)
      for job in zip(states, trunk.stacks(rows), actions, noise, strict=True)
    ]
    deaths: list[str] = []
    found = self._trunks.pool.run('branches', theta, jobs, deaths)
    fields = vars(trunk) | _branch_fields(found, rows, trunk.frames)
    fields['deaths'] = trunk.deaths + tuple(deaths)
    return AtariVineBatch(
      **fields, rollout_set=places, first_actions=actions, log_q=log_q
    )

  def _propose(
    self, outputs: np.ndarray, iteration: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """First actions [N, K, A] and their log-probability [N, K] under q."""
    rng = seeding.generator(self._seed, Stream.BRANCH_ACTIONS, iteration)
    return draws.choices(
      rng,
      self._config.branch_proposal,
      self._actor,
      self.game.factors,
      outputs,
      self._config.branch_actions,
    )


def _branch_fields(
  found: Iterator[Branches], rows: np.ndarray, frames: np.ndarray
) -> dict[str, np.ndarray]:
  """The [N, K, M] fields of AtariVineBatch.

  Args:
    found: the branches of N states.
    rows: int32 [N, 4], the observations in these states, rows of frames.
    frames: uint8 [F, H, W]; those that end the branches are appended.
  """
  more = FrameStore(STACK * len(rows), frames.shape[1:], len(frames))
  returns, lengths, ends, finals = [], [], [], []
  for branches, old in zip(found, rows, strict=True):
    observations = np.zeros((*branches.ends.shape, STACK), np.int32)
    for branch, newest in branches.finals.items():
      observations[branch] = np.append(old[len(newest) :], more.add(newest))
    returns.append(branches.returns)
    lengths.append(branches.lengths)
    ends.append(branches.ends)
    finals.append(observations)
  extend(frames, more.stored())
  return dict(
    branch_returns=np.stack(returns),
    branch_lengths=np.stack(lengths),
    branch_ends=np.stack(ends),
    final_observations=np.stack(finals),
  )
