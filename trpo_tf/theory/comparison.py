"""The methods side by side, from the uniform policy on."""

import dataclasses
from collections.abc import Callable

import numpy as np

from trpo_tf.theory import (
  conservative_policy_iteration,
  divergences,
  minorize_maximize,
  trust_region,
)
from trpo_tf.theory.mdp import MDP, expected_return, optimal, uniform
from trpo_tf.theory.observations import unfold

__all__ = ['Trace', 'best_return', 'methods', 'trace']

Step = Callable[[MDP, np.ndarray], np.ndarray]
_SCAN = 2001  # policies


@dataclasses.dataclass(frozen=True)
class Trace:
  """What a method does to one problem.

  Attributes:
    returns: eta before the first and after every iteration, [iterations + 1].
    divergences: max_s KL(old || new) of every step, [iterations].
  """

  returns: np.ndarray
  divergences: np.ndarray


def methods(delta: float) -> dict[str, Step]:
  """The steps by their names.

  Args:
    delta: bound of the trust regions, in nats.
  """
  return {
    'CPI': conservative_policy_iteration.step,
    'Algorithm 1': minorize_maximize.step,
    'max KL': lambda mdp, old: trust_region.max_kl_step(mdp, old, delta),
    'mean KL': lambda mdp, old: trust_region.mean_kl_step(mdp, old, delta),
  }


def trace(mdp: MDP, step: Step, iterations: int) -> Trace:
  """Runs a method on one problem."""
  pi = uniform(mdp)
  returns, moved = [float(expected_return(mdp, pi))], []
  for _ in range(iterations):
    new = step(mdp, pi)
    moved.append(float(divergences.kl(pi, new).max()))
    pi = new
    returns.append(float(expected_return(mdp, pi)))
  return Trace(np.array(returns), np.array(moved))


def best_return(mdp: MDP) -> float:
  """The largest eta of a policy that sees what it may see.

  Where states look alike this is a scan over one probability: right for two
  actions and one observation with a choice.
  """
  if mdp.observations is None:
    return float(expected_return(mdp, optimal(mdp)))
  first = np.linspace(0, 1, _SCAN)
  row = np.stack([first, 1 - first], axis=-1)[:, np.newaxis]
  rows = np.repeat(row, np.max(mdp.observations) + 1, axis=1)
  return float(expected_return(mdp, unfold(mdp, rows)).max())
