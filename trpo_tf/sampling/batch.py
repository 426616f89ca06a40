"""The experience of one iteration, in the form that every sampler returns."""

import dataclasses
import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from trpo_tf.moments import Moments
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.summary import Summary, summarize

if TYPE_CHECKING:
  from trpo_tf.sampling.actors import Actor
  from trpo_tf.tasks.actions import ActionSpace

MAX_RECORDED = 100  # failed branches of a batch that are kept for replay


class End(enum.IntFlag):
  """How a step ended its episode; 0 if the episode continues."""

  TERMINATED = 1
  TRUNCATED = 2
  DIVERGED = 4


@dataclasses.dataclass(frozen=True)
class Divergence:
  """A simulation that diverged, with what is needed to reproduce it.

  Attributes:
    iteration, slot, episode: keys of the trajectory; the slot's first
      episode is 1 (0 for a branch, whose episode is its trunk's). In a run in
      shards, the slots of the first shard come first (`Kit.of_shard`).
    step: env steps of the episode before the one that failed.
    causes: names of MuJoCo's warnings, 'non-finite output' or 'error'.
    message: MuJoCo's error text, or which of the task's expressions failed and
      how; '' if neither is known.
    state: float64 integration row of some steps earlier, after the reset; for
      a branch of a Gymnasium environment the bytes (uint8) of its snapshot.
    controls: [n, A], the controls from there on; the step of the last one
      failed (or did not begin, if the reset itself failed).
    branch: (state, action, trial) of the branch that diverged, the state as an
      index of the rollout set; () for a path.
    header: kind, version and model of the snapshot whose data is `state`; ()
      if `state` is a row.
  """

  iteration: int
  slot: int
  episode: int
  step: int
  causes: tuple[str, ...]
  message: str
  state: np.ndarray
  controls: np.ndarray
  branch: tuple[int, ...] = ()
  header: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Batch:
  """S slots of up to T env steps; step t of slot s is valid if kept[s, t].

  Attributes:
    observations: float32 [S, T, O], raw, before each action.
    actions: float64 [S, T, A] unclipped, or int32 for discrete factors.
    outputs: float32 [S, T, M], the policy's distribution outputs as sampled.
    log_probs: float32 [S, T], log-probability of the actions as sampled.
    rewards: float64 [S, T], raw.
    ends: uint8 [S, T], bits of End.
    timesteps: int32 [S, T], step within the episode, from 0.
    lengths: int32 [S], steps recorded.
    kept: bool [S, T], recorded and not dropped.
    last_observations: float32 [S, O], after the last step of slots that end
      within an episode.
    boundary_index: int32 [B, 2], slot and step of every truncation that did
      not also terminate.
    boundary_observations: float32 [B, O], observation reached there.
    episode_returns: float64 [E], undiscounted, of the episodes that ended.
    episode_lengths: int32 [E], env steps.
    episode_terms: float64 [E] by name, sums of the reward's terms.
    clipped_fraction: share of action components outside the control range.
    diverged: the simulations that diverged.
    deaths: causes of worker crashes; the work of a crashed worker is repeated,
      with the same result.
  """

  observations: np.ndarray
  actions: np.ndarray
  outputs: np.ndarray
  log_probs: np.ndarray
  rewards: np.ndarray
  ends: np.ndarray
  timesteps: np.ndarray
  lengths: np.ndarray
  kept: np.ndarray
  last_observations: np.ndarray
  boundary_index: np.ndarray
  boundary_observations: np.ndarray
  episode_returns: np.ndarray
  episode_lengths: np.ndarray
  episode_terms: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  clipped_fraction: float = 0.0
  diverged: tuple[Divergence, ...] = ()
  deaths: tuple[str, ...] = ()

  @property
  def num_diverged(self) -> int:
    """Number of simulations that diverged."""
    return len(self.diverged)

  @property
  def num_branch_steps(self) -> int:
    """Number of env steps of branches; a batch of paths has none."""
    return 0

  @property
  def num_steps(self) -> int:
    """Number of env steps simulated, including dropped ones and branches."""
    return int(self.lengths.sum()) + self.num_branch_steps

  @property
  def parts(self) -> tuple['Batch', ...]:
    """The batches of paths whose steps a learner uses."""
    return (self,)

  def flat(self, field: np.ndarray) -> np.ndarray:
    """Returns the kept rows of a field [S, T, ...] as [N, ...]."""
    return field[self.kept]

  def steps(self, name: str) -> np.ndarray:
    """Returns the kept rows of a field of every part, [N, ...]."""
    return np.concatenate([p.flat(getattr(p, name)) for p in self.parts])

  def summary(self) -> Summary:
    """Returns what a record says about the batch."""
    return summarize(self)

  def observation_moments(self) -> Moments:
    """Returns the moments [O] of the kept steps' raw observations."""
    return Moments.of(self.steps('observations'))

  def histograms(self) -> dict[str, np.ndarray]:
    """Returns arrays of any shape whose distribution is worth a look."""
    return dict(
      returns=self.episode_returns, actions=self.flat(self.actions).ravel()
    )

  def inputs(self, observations: np.ndarray, normalizer: Normalizer) -> Any:
    """Returns the inputs of the networks, float32 [N, O].

    Args:
      observations: [..., O], as in the fields of this batch.
      normalizer: normaliser of observations, as used while sampling.
    """
    return normalizer(observations.reshape(-1, observations.shape[-1]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class VineBatch(Batch):
  """Trunks (the fields of Batch) and the branches from N of their states.

  Attributes:
    rollout_set: int32 [N, 2], slot and step of each state, by slot then step.
    first_actions: [N, K, A] unclipped float64, or int32 for discrete factors.
    log_q: float64 [N, K], their log-probability under the proposal.
    branch_returns: float64 [N, K, M], discounted, first step undiscounted.
    branch_lengths: int32 [N, K, M], env steps.
    branch_ends: uint8 [N, K, M], bits of End; 0: cut alive at its length.
    final_observations: float32 [N, K, M, O], after a branch's last step;
      meaningless for a branch that diverged.
    branches: the steps of the N x K x M branches in order, one slot for each,
      if the objective uses them; None otherwise.
  """

  rollout_set: np.ndarray
  first_actions: np.ndarray
  log_q: np.ndarray
  branch_returns: np.ndarray
  branch_lengths: np.ndarray
  branch_ends: np.ndarray
  final_observations: np.ndarray
  branches: Batch | None = None

  @property
  def parts(self) -> tuple[Batch, ...]:
    """The trunks, and the steps of the branches if they are kept."""
    return (self,) if self.branches is None else (self, self.branches)

  @property
  def num_diverged(self) -> int:
    """Number of simulations that diverged, including unrecorded branches."""
    branches = int(((self.branch_ends & End.DIVERGED) != 0).sum())
    return sum(not d.branch for d in self.diverged) + branches

  @property
  def num_branch_steps(self) -> int:
    """Number of env steps of all branches."""
    return int(self.branch_lengths.sum())

  def at_rollout_set(self, field: np.ndarray) -> np.ndarray:
    """Returns the rows [N, ...] of a field [S, T, ...] at the rollout set."""
    return field[tuple(self.rollout_set.T)]


class Path(NamedTuple):
  """The T env steps of one slot.

  Attributes:
    observations: [T, ...], before each action.
    last_observation: [...], after the last step.
    outputs: float32 [T, M], of the policy.
    actions: [T, A].
    rewards: float64 [T].
    ends: uint8 [T], bits of End.
    timesteps: int32 [T], step within the episode.
    boundaries: the observations that truncated episodes reached, by step.
    episodes: (undiscounted return, length) of each episode that ended.
  """

  observations: np.ndarray
  last_observation: np.ndarray
  outputs: np.ndarray
  actions: np.ndarray
  rewards: np.ndarray
  ends: np.ndarray
  timesteps: np.ndarray
  boundaries: dict[int, np.ndarray]
  episodes: list[tuple[float, int]]


_AnyBatch = TypeVar('_AnyBatch', bound=Batch)


def batch_of_paths(
  paths: Sequence[Path],
  actor: 'Actor',
  space: 'ActionSpace',
  batch_type: type[_AnyBatch],
  **fields: Any,
) -> _AnyBatch:
  """Combines the paths of S slots into a batch, padded with zeros.

  Args:
    paths: one path per slot.
    actor: the policy that acted.
    space: the actions that it chooses from.
    batch_type: class of the batch.
    **fields: further fields of that class.
  """
  lengths = np.array([len(path.rewards) for path in paths], np.int32)
  kept = np.arange(lengths.max()) < lengths[:, np.newaxis]

  def padded(parts: Sequence[np.ndarray]) -> np.ndarray:
    result = np.zeros((*kept.shape, *parts[0].shape[1:]), parts[0].dtype)
    result[kept] = np.concatenate(parts)
    return result

  names = 'observations', 'outputs', 'actions', 'rewards', 'ends', 'timesteps'
  steps: dict[str, Any] = {
    name: padded([getattr(path, name) for path in paths]) for name in names
  }
  actions = steps['actions']
  log_probs = np.where(kept, actor.log_prob(steps['outputs'], actions), 0)
  clipped = (actions[kept] < space.low) | (actions[kept] > space.high)
  last = np.stack([path.last_observation for path in paths])
  cuts = [(s, t) for s, path in enumerate(paths) for t in path.boundaries]
  reached = [seen for path in paths for seen in path.boundaries.values()]
  finished = [episode for path in paths for episode in path.episodes]
  return batch_type(
    **steps,
    log_probs=log_probs.astype(np.float32),
    lengths=lengths,
    kept=kept,
    last_observations=last,
    boundary_index=np.array(cuts, np.int32).reshape(-1, 2),
    boundary_observations=np.array(reached, last.dtype).reshape(
      -1, *last.shape[1:]
    ),
    episode_returns=np.array([r for r, _ in finished], np.float64),
    episode_lengths=np.array([n for _, n in finished], np.int32),
    clipped_fraction=float(clipped.mean()),
    **fields,
  )
