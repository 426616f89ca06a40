"""What the vine draws: rollout set, first actions, branch noise (section 5.2).

Each is a stream of its own, so the trunks are those of single-path sampling
with the same seed, and the draws do not depend on who simulates.
"""

import numpy as np

from trpo_tf import seeding
from trpo_tf.sampling.actors import CategoricalActor
from trpo_tf.seeding import Stream


def draw_states(
  seed: int, iteration: int, num_slots: int, num_steps: int, size: int
) -> np.ndarray:
  """The rollout set: N of the visited states, without replacement.

  Every state before an action of every trunk is equally likely, as in the
  authors' 2015 code; terminal states have no action and are not among them.

  Args:
    seed: the run's.
    iteration: key of the draw.
    num_slots: trunks S.
    num_steps: env steps T of each.
    size: N.

  Returns:
    int32 [N, 2]: slot and step, ascending.
  """
  rng = seeding.generator(seed, Stream.ROLLOUT_SET, iteration)
  chosen = np.sort(rng.choice(num_slots * num_steps, size, replace=False))
  return np.stack(np.divmod(chosen, num_steps), axis=1).astype(np.int32)


def gaussian_actions(
  rng: np.random.Generator, means: np.ndarray, log_std: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """K draws of the policy in each state.

  Args:
    rng: of Stream.BRANCH_ACTIONS.
    means: float32 [N, A] of the policy.
    log_std: [A].
    count: K.

  Returns:
    actions float64 [N, K, A] and their log density [N, K].
  """
  z = rng.standard_normal((len(means), count, means.shape[1]))
  log_std = log_std.astype(np.float64)
  actions = means[:, None].astype(np.float64) + np.exp(log_std) * z
  constant = log_std + 0.5 * np.log(2 * np.pi)
  return actions, -(0.5 * z * z + constant).sum(-1)


def uniform_actions(
  rng: np.random.Generator,
  low: np.ndarray,
  high: np.ndarray,
  num_states: int,
  count: int,
) -> tuple[np.ndarray, np.ndarray]:
  """K uniform draws between the action bounds in each state.

  Args:
    rng: of Stream.BRANCH_ACTIONS.
    low: float64 [A].
    high: float64 [A].
    num_states: N.
    count: K.

  Returns:
    actions float64 [N, K, A] and their log density [N, K].
  """
  actions = rng.uniform(low, high, (num_states, count, low.size))
  log_q = -np.log(high - low).sum()
  return actions, np.full((num_states, count), log_q)


def uniform_choices(
  rng: np.random.Generator,
  factors: tuple[int, ...],
  num_states: int,
  count: int,
) -> tuple[np.ndarray, np.ndarray]:
  """K uniform draws in each state, int32 [N, K, A], and their log q."""
  shape = num_states, count, len(factors)
  choices = rng.integers(factors, size=shape, dtype=np.int32)
  return choices, np.full(shape[:2], -np.log(factors).sum())


def policy_choices(
  rng: np.random.Generator,
  actor: CategoricalActor,
  logits: np.ndarray,
  num_factors: int,
  count: int,
) -> tuple[np.ndarray, np.ndarray]:
  """K draws of the policy in each state, int32 [N, K, A], and their log q."""
  shape = len(logits), count
  logits = np.repeat(logits, count, axis=0)
  choices = actor.act(logits, rng.random((len(logits), num_factors)))
  log_q = actor.log_prob(logits, choices)
  return choices.reshape(*shape, -1), log_q.reshape(shape)


def all_choices(
  factors: tuple[int, ...], num_states: int
) -> tuple[np.ndarray, np.ndarray]:
  """Every action once in each state, int32 [N, K, A], and log 1 / K."""
  every = np.array(list(np.ndindex(factors)), np.int32)
  shape = num_states, *every.shape
  log_q = np.full(shape[:2], -np.log(len(every)))
  return np.broadcast_to(every, shape), log_q


def choices(
  rng: np.random.Generator,
  proposal: str,
  actor: CategoricalActor,
  factors: tuple[int, ...],
  logits: np.ndarray,
  count: int,
) -> tuple[np.ndarray, np.ndarray]:
  """First actions of discrete factors.

  Args:
    rng: of Stream.BRANCH_ACTIONS.
    proposal: q, see SamplerConfig.branch_proposal.
    actor: draws from the policy.
    factors: choices of each.
    logits: float32 [N, M], of the policy.
    count: K, unless every action is taken.

  Returns:
    actions int32 [N, K, A] and their log-probability [N, K] under q.
  """
  if proposal == 'all':
    return all_choices(factors, len(logits))
  if proposal == 'uniform':
    return uniform_choices(rng, factors, len(logits), count)
  return policy_choices(rng, actor, logits, len(factors), count)


def branch_noise(
  seed: int,
  iteration: int,
  shape: tuple[int, ...],
  draw=np.random.Generator.standard_normal,
) -> np.ndarray:
  """Noise [N, M, L, A] that the K branches of a state share.

  Args:
    seed: the run's.
    iteration: key of the draw.
    shape: N, M, L, A; the row of a branch's first step is not used, as its
      action is given.
    draw: what a policy's noise is, as a method of the generator.

  Returns:
    float64 [N, M, L, A].
  """
  rng = seeding.generator(seed, Stream.BRANCH_NOISE, iteration)
  return draw(rng, shape)
