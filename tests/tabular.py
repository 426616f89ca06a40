"""A small random MDP and what theory says of it, exact and in NumPy.

A policy is a table pi [S, A]. Arrays over visits are [H, S]: time step, state.
"""

import dataclasses

import numpy as np

from trpo_tf.sampling.batch import End


@dataclasses.dataclass(frozen=True)
class MDP:
  """A finite-horizon MDP whose episodes may also terminate before.

  Attributes:
    transitions: [S, A, S + 1]; the last column is termination.
    rewards: [S, A].
    initial: [S] distribution of the first state.
    horizon: steps H of an episode.
    gamma: discount.
  """

  transitions: np.ndarray
  rewards: np.ndarray
  initial: np.ndarray
  horizon: int
  gamma: float


def random_mdp(rng, states=4, actions=3, horizon=5, gamma=0.9) -> MDP:
  return MDP(
    rng.dirichlet(np.ones(states + 1), size=(states, actions)),
    rng.normal(size=(states, actions)),
    rng.dirichlet(np.ones(states)),
    horizon,
    gamma,
  )


def softmax_table(theta, states):
  """The policy of a linear network on one-hot states: W [S, A], b [A]."""
  layers = np.reshape(theta, (states + 1, -1))
  logits = layers[:-1] + layers[-1]
  powers = np.exp(logits - logits.max(axis=1, keepdims=True))
  return powers / powers.sum(axis=1, keepdims=True)


def occupancy(mdp, pi):
  """Undiscounted: P(s_t = s), not terminated; [H, S]."""
  p, rows = mdp.initial, []
  for _ in range(mdp.horizon):
    rows.append(p)
    p = np.einsum('s,sa,sax->x', p, pi, mdp.transitions)[:-1]
  return np.stack(rows)


def moments(mdp, pi):
  """Mean and variance of the return after each (t, s, a): [H, S, A] each."""
  shape = (mdp.horizon, *mdp.rewards.shape)
  first, second = np.zeros(shape), np.zeros(shape)
  m1 = m2 = np.zeros(len(pi))
  for t in reversed(range(mdp.horizon)):
    follow = mdp.gamma * mdp.transitions[..., :-1]
    first[t] = mdp.rewards + follow @ m1
    second[t] = mdp.rewards**2 + 2 * mdp.rewards * (follow @ m1)
    second[t] += mdp.gamma * follow @ m2
    m1, m2 = (pi * first[t]).sum(axis=1), (pi * second[t]).sum(axis=1)
  return first, second - first**2


def expected_return(mdp, pi):
  return mdp.initial @ (pi * moments(mdp, pi)[0][0]).sum(axis=1)


def surrogate(visits, pi, q):
  """Sum over visits of sum_a pi(a|s) Q(t, s, a)."""
  return np.einsum('ts,sa,tsa->', visits, pi, q)


def surrogate_gradient(visits, pi, q):
  """Its gradient in the theta of `softmax_table`, flat."""
  advantages = q - np.einsum('sa,tsa->ts', pi, q)[..., np.newaxis]
  by_logits = np.einsum('ts,sa,tsa->sa', visits, pi, advantages)
  return np.concatenate([by_logits, by_logits.sum(axis=0)[np.newaxis]]).ravel()


def branches(mdp, pi, rng, t, s, a):
  """Runs one branch of pi from every (t, s, a) to the horizon.

  Args:
    mdp: where.
    pi: what acts after the first action.
    rng: draws.
    t, s, a: integer arrays of one shape.

  Returns:
    Discounted returns, lengths, ends and final states, of that shape.
  """
  t, s, a = (np.array(each) for each in (t, s, a))
  returns, lengths = np.zeros(t.shape), np.zeros(t.shape, int)
  ends = np.zeros(t.shape, np.uint8)
  for _ in range(mdp.horizon):
    going = ends == 0
    returns += going * mdp.gamma**lengths * mdp.rewards[s, a]
    following = _draw(rng, mdp.transitions[s, a])
    lengths += going
    terminated = going & (following == len(pi))
    ends[terminated] = End.TERMINATED
    ends[going & ~terminated & (t + lengths == mdp.horizon)] = End.TRUNCATED
    s = np.where(going & ~terminated, following, s)
    a = _draw(rng, pi[s])
  return returns, lengths, ends, s


def _draw(rng, probabilities):
  """An index of the last axis by its probabilities."""
  u = rng.random((*probabilities.shape[:-1], 1))
  bounds = np.cumsum(probabilities, axis=-1)[..., :-1]
  return (u >= bounds).sum(axis=-1)
