"""Searches for the problem that comes closest to breaking a bound.

L-BFGS maximises |loss| / penalty over transitions, rewards and policies from
many random starts. A ratio above 1 would refute the bound (or its
implementation). A ratio near 1 shows that no constant in it is too large.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import optimize, special

from trpo_tf.theory import bounds
from trpo_tf.theory.conservative_policy_iteration import mixture
from trpo_tf.theory.mdp import MDP

__all__ = ['BOUNDS', 'Found', 'from_dict', 'ratio', 'tightest', 'to_dict']

BOUNDS = ('mixture', 'tv', 'kl')
_ALPHA = 0.2  # weight of the other policy in a mixture
_DIFFERENCE = 1e-6  # step of the finite differences
_LEAST = 1e-4  # smallest penalty; below it, rounding would count as loss


@dataclasses.dataclass(frozen=True)
class Found:
  """A problem and two policies.

  Attributes:
    bound: one of BOUNDS, which are the tight forms of equations 6 and 8, and
      equation 9.
    mdp: the problem.
    old: [..., S, A] old policy.
    other: [..., S, A] new policy; for 'mixture', the one that is mixed with
      the old policy.
  """

  bound: str
  mdp: MDP
  old: np.ndarray
  other: np.ndarray


def ratio(found: Found) -> np.ndarray:
  """Computes |L_old(new) - eta(new)| / penalty, [...]."""
  mdp, old, other = found.mdp, found.old, found.other
  if found.bound == 'mixture':
    new = mixture(old, other, _ALPHA)
    penalty = bounds.tight_mixture_penalty(mdp, old, other, _ALPHA)
  elif found.bound == 'tv':
    new, penalty = other, bounds.tight_tv_penalty(mdp, old, other)
  else:
    new, penalty = other, bounds.kl_penalty(mdp, old, other)
  return np.abs(bounds.loss(mdp, old, new)) / np.maximum(penalty, _LEAST)


def tightest(
  bound: str,
  rng: np.random.Generator,
  *,
  gamma: float = 0.9,
  states: int = 2,
  actions: int = 3,
  starts: int = 20,
  iterations: int = 300,
) -> Found:
  """Maximises the ratio from random problems and keeps the best result.

  Args:
    bound: one of BOUNDS.
    rng: source of the random problems.
    gamma: discount.
    states: number S of states.
    actions: number A of actions.
    starts: number of random problems, from each of which a climb starts.
    iterations: largest number of iterations of a climb.

  Returns:
    The problem and policies with the largest ratio.
  """
  shape = (states, actions)
  size = states * actions * (states + 3) + states
  decode = lambda x: _decode(x, bound, gamma, shape)

  def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
    steps = _DIFFERENCE * np.vstack([np.zeros(size), np.eye(size)])
    heights = ratio(decode(x + steps))  # one call for value and gradient
    return -heights[0], -(heights[1:] - heights[0]) / _DIFFERENCE

  ends = [
    optimize.minimize(
      objective,
      2 * rng.normal(size=size),
      jac=True,
      method='L-BFGS-B',
      bounds=[(-25, 25)] * size,
      options=dict(maxiter=iterations),
    )
    for _ in range(starts)
  ]
  return decode(min(ends, key=lambda end: end.fun).x)


def _decode(x: np.ndarray, bound: str, gamma: float, shape: tuple) -> Found:
  """Makes a problem of a point [..., size]: logits and unsquashed rewards."""
  states, actions = shape
  pair = states * actions
  parts = np.split(x, np.cumsum([pair * states, pair, pair, pair]), axis=-1)
  leading = x.shape[:-1]
  moves = parts[0].reshape(*leading, *shape, states)
  rewards, old, other = (p.reshape(*leading, *shape) for p in parts[1:4])
  soft = lambda logits: special.softmax(logits, axis=-1)
  mdp = MDP(soft(moves), np.tanh(rewards), soft(parts[4]), gamma)
  return Found(bound, mdp, soft(old), soft(other))


def to_dict(found: Found) -> dict[str, Any]:
  """Returns plain values for JSON, the ratio among them."""
  return dict(
    bound=found.bound,
    ratio=float(ratio(found)),
    gamma=found.mdp.gamma,
    transitions=found.mdp.transitions.tolist(),
    rewards=found.mdp.rewards.tolist(),
    start=found.mdp.start.tolist(),
    old=found.old.tolist(),
    other=found.other.tolist(),
  )


def from_dict(values: dict[str, Any]) -> Found:
  """Makes a Found of what `to_dict` returned."""
  table = {
    n: np.asarray(values[n])
    for n in ('transitions', 'rewards', 'start', 'old', 'other')
  }
  mdp = MDP(
    table['transitions'], table['rewards'], table['start'], values['gamma']
  )
  return Found(values['bound'], mdp, table['old'], table['other'])
