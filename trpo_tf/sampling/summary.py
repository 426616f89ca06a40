"""What a record says about a batch, in a form that can be merged."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trpo_tf.moments import Moments

if TYPE_CHECKING:
  from trpo_tf.sampling.batch import Batch, Divergence

__all__ = ['Episodes', 'Summary', 'summarize']


class Episodes(NamedTuple):
  """Statistics of the episodes that ended in a batch.

  Attributes:
    returns: of their undiscounted returns.
    lowest, highest: of these returns; inf and -inf without episodes.
    lengths: of their env steps.
    terms: of the sums of each reward term, by name.
  """

  returns: Moments
  lowest: float
  highest: float
  lengths: Moments
  terms: dict[str, Moments]

  @property
  def number(self) -> int:
    """Number of episodes."""
    return int(self.returns.weight)

  def merge(self, other: 'Episodes') -> 'Episodes':
    """Returns the statistics of both sets of episodes together."""
    return Episodes(
      self.returns.merge(other.returns),
      min(self.lowest, other.lowest),
      max(self.highest, other.highest),
      self.lengths.merge(other.lengths),
      {k: m.merge(other.terms[k]) for k, m in self.terms.items()},
    )


class Summary(NamedTuple):
  """Counts and statistics of a batch.

  Attributes:
    trunk_steps: env steps of paths or trunks, including dropped ones.
    kept_steps: those of them that a learner uses.
    branch_steps: env steps of branches.
    num_diverged: number of simulations that diverged.
    episodes: the episodes that ended.
    clipped: of the action components of kept steps, 1 if it is outside of the
      control range.
    diverged: the simulations that diverged, as far as they are recorded.
    deaths: causes of worker crashes.
  """

  trunk_steps: int
  kept_steps: int
  branch_steps: int
  num_diverged: int
  episodes: Episodes
  clipped: Moments
  diverged: tuple['Divergence', ...]
  deaths: tuple[str, ...]

  @property
  def env_steps(self) -> int:
    """Number of env steps simulated, including dropped ones and branches."""
    return self.trunk_steps + self.branch_steps

  def merge(self, other: 'Summary') -> 'Summary':
    """Returns the summary of both batches together."""
    return Summary(
      self.trunk_steps + other.trunk_steps,
      self.kept_steps + other.kept_steps,
      self.branch_steps + other.branch_steps,
      self.num_diverged + other.num_diverged,
      self.episodes.merge(other.episodes),
      self.clipped.merge(other.clipped),
      self.diverged + other.diverged,
      self.deaths + other.deaths,
    )


def summarize(batch: 'Batch') -> Summary:
  """Summarises a batch."""
  returns = batch.episode_returns
  episodes = Episodes(
    Moments.of(returns),
    float(returns.min(initial=np.inf)),
    float(returns.max(initial=-np.inf)),
    Moments.of(batch.episode_lengths),
    {name: Moments.of(sums) for name, sums in batch.episode_terms.items()},
  )
  components = batch.kept.sum() * batch.actions.shape[-1]
  share = batch.clipped_fraction
  return Summary(
    int(batch.lengths.sum()),
    int(batch.kept.sum()),
    batch.num_branch_steps,
    batch.num_diverged,
    episodes,
    Moments(float(components), share, components * share * (1 - share)),
    batch.diverged,
    batch.deaths,
  )
