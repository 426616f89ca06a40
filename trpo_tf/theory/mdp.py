"""Markov decision processes as tables, evaluated exactly by linear solves.

A policy is a table pi [..., S, A] of action probabilities. Leading axes are
independent problems, so one call can evaluate thousands. All numbers are
float64.

States may look alike. A policy must then act alike in them, as a network does
in states that it cannot tell apart. Without that constraint, every step here
would improve the policy in every state, eta would grow whatever the step's
size, and no bound would matter.
"""

import dataclasses

import numpy as np

__all__ = [
  'MDP',
  'advantages',
  'expected_return',
  'optimal',
  'uniform',
  'values',
  'visits',
]

_ROUNDING = 16 * np.finfo(np.float64).eps


@dataclasses.dataclass(frozen=True)
class MDP:
  """A Markov decision process with an infinite horizon.

  Attributes:
    transitions: [..., S, A, S] probabilities of the next state.
    rewards: [..., S, A] expected rewards.
    start: [..., S] probabilities of the first state, rho_0.
    gamma: discount, in (0, 1).
    observations: int [S], the observation 0..O-1 of each state; None if the
      states themselves are seen.
  """

  transitions: np.ndarray
  rewards: np.ndarray
  start: np.ndarray
  gamma: float
  observations: np.ndarray | None = None


def uniform(mdp: MDP) -> np.ndarray:
  """Returns the policy [..., S, A] that draws every action equally often."""
  return np.full(mdp.rewards.shape, 1 / mdp.rewards.shape[-1])


def values(mdp: MDP, pi: np.ndarray) -> np.ndarray:
  """Computes V_pi, the solution of V = r_pi + gamma P_pi V.

  Args:
    mdp: [...] problems.
    pi: [..., S, A] policy.

  Returns:
    float64 [..., S], in units of return.
  """
  rewards = np.einsum('...sa,...sa->...s', pi, mdp.rewards)
  return np.linalg.solve(_bellman(mdp, pi), rewards[..., np.newaxis])[..., 0]


def visits(mdp: MDP, pi: np.ndarray) -> np.ndarray:
  """Computes rho_pi(s) = sum_t gamma^t P(s_t = s), unnormalised.

  Args:
    mdp: [...] problems.
    pi: [..., S, A] policy.

  Returns:
    float64 [..., S]; the sum over states is 1 / (1 - gamma).
  """
  transposed = np.swapaxes(_bellman(mdp, pi), -1, -2)
  return np.linalg.solve(transposed, mdp.start[..., np.newaxis])[..., 0]


def advantages(mdp: MDP, pi: np.ndarray) -> np.ndarray:
  """Computes A_pi = Q_pi - V_pi, set to 0 where it is only rounding error.

  Steps do not depend on the scale of the advantages. Without the zeros, a
  policy that cannot be improved would follow the rounding errors.

  Args:
    mdp: [...] problems.
    pi: [..., S, A] policy.

  Returns:
    float64 [..., S, A], in units of return.
  """
  v = values(mdp, pi)[..., np.newaxis]
  a = _action_values(mdp, v[..., 0]) - v
  noise = _ROUNDING * np.abs(v).max(axis=-2, keepdims=True)
  return np.where(np.abs(a) > noise, a, 0.0)


def expected_return(mdp: MDP, pi: np.ndarray) -> np.ndarray:
  """Computes eta(pi), the expected discounted return.

  Args:
    mdp: [...] problems.
    pi: [..., S, A] policy.

  Returns:
    float64 [...].
  """
  return np.einsum('...s,...s->...', mdp.start, values(mdp, pi))


def optimal(mdp: MDP) -> np.ndarray:
  """Finds an optimal policy [..., S, A] of the states by policy iteration."""
  pi = uniform(mdp)
  while True:
    v = values(mdp, pi)
    better = _action_values(mdp, v)
    # An action must win by more than rounding, or ties would alternate forever.
    if np.all(better.max(axis=-1) - v <= 1e-10 * (1 + np.abs(v))):
      return pi
    pi = np.eye(pi.shape[-1])[better.argmax(axis=-1)]


def _action_values(mdp: MDP, v: np.ndarray) -> np.ndarray:
  follow = np.einsum('...sax,...x->...sa', mdp.transitions, v)
  return mdp.rewards + mdp.gamma * follow


def _bellman(mdp: MDP, pi: np.ndarray) -> np.ndarray:
  """Computes I - gamma P_pi, [..., S, S]."""
  steps = np.einsum('...sa,...sax->...sx', pi, mdp.transitions)
  return np.eye(steps.shape[-1]) - mdp.gamma * steps
