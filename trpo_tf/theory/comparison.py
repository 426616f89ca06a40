"""Compares the methods, each of which starts from the uniform policy."""

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
_SCAN = 2001  # policies that `best_return` tries


@dataclasses.dataclass(frozen=True)
class Trace:
  """The course of a method on one problem.

  Attributes:
    returns: float64 [iterations + 1], eta before the first iteration and
      after each.
    divergences: float64 [iterations], max_s KL(old || new) of each step, in
      nats.
  """

  returns: np.ndarray
  divergences: np.ndarray


def methods(delta: float) -> dict[str, Step]:
  """Returns the step function of each method by its name.

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
  """Runs a method on one problem.

  Args:
    mdp: the problem.
    step: maps the problem and the old policy [S, A] to the new policy.
    iterations: number of steps.

  Returns:
    The Trace of the run.
  """
  pi = uniform(mdp)
  returns, moved = [float(expected_return(mdp, pi))], []
  for _ in range(iterations):
    new = step(mdp, pi)
    moved.append(float(divergences.kl(pi, new).max()))
    pi = new
    returns.append(float(expected_return(mdp, pi)))
  return Trace(np.array(returns), np.array(moved))


def best_return(mdp: MDP) -> float:
  """Computes the largest eta of a policy that sees only the observations.

  Where states look alike, this scans one probability. The result is right for
  two actions and a single observation in which the action matters.
  """
  if mdp.observations is None:
    return float(expected_return(mdp, optimal(mdp)))
  first = np.linspace(0, 1, _SCAN)
  row = np.stack([first, 1 - first], axis=-1)[:, np.newaxis]
  rows = np.repeat(row, np.max(mdp.observations) + 1, axis=1)
  return float(expected_return(mdp, unfold(mdp, rows)).max())
