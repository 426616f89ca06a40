"""Tabular problems: random ones, a chain, a grid and a corridor."""

import numpy as np

from trpo_tf.theory.mdp import MDP
from trpo_tf.theory.observations import seen, unfold

__all__ = [
  'chain',
  'grid',
  'random_mdps',
  'random_policies',
  'switched_corridor',
]

_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def random_mdps(
  rng: np.random.Generator,
  count: int,
  states: int,
  actions: int,
  gamma: float,
  concentration: float = 0.3,
  observations: np.ndarray | None = None,
) -> MDP:
  """Draws many problems at once.

  Args:
    rng: source of the draws.
    count: number of problems, which is the leading axis.
    states: number S of states.
    actions: number A of actions.
    gamma: discount.
    concentration: parameter of the Dirichlet distribution that transitions are
      drawn from; small values make them nearly deterministic.
    observations: int [S], the observation of each state; None if the states
      themselves are seen.

  Returns:
    The problems [count]; rewards are standard normal.
  """
  spread = np.full(states, concentration)
  return MDP(
    rng.dirichlet(spread, size=(count, states, actions)),
    rng.normal(size=(count, states, actions)),
    rng.dirichlet(np.ones(states), size=count),
    gamma,
    observations,
  )


def random_policies(
  rng: np.random.Generator, mdp: MDP, concentration: float = 1.0
) -> np.ndarray:
  """Draws a policy that acts alike in states that look alike.

  Args:
    rng: source of the draws.
    mdp: [...] problems.
    concentration: parameter of the Dirichlet distribution that each state's
      probabilities are drawn from.

  Returns:
    float64 [..., S, A].
  """
  *leading, actions = mdp.rewards.shape
  pi = rng.dirichlet(np.full(actions, concentration), size=leading)
  return unfold(mdp, seen(mdp, pi))


def chain(length: int = 10, gamma: float = 0.95, slip: float = 0.1) -> MDP:
  """Makes a chain whose far end pays ten times as much as the near one.

  Args:
    length: number of states in the row; the third is the start.
    gamma: discount.
    slip: probability that a move goes the other way.

  Returns:
    The problem. The actions are left and right; an inward move leaves an end.
  """
  transitions = np.zeros((length, 2, length))
  for s in range(length):
    for a, move in enumerate((-1, 1)):
      for way, probability in ((move, 1 - slip), (-move, slip)):
        transitions[s, a, np.clip(s + way, 0, length - 1)] += probability
  rewards = np.zeros((length, 2))
  rewards[0], rewards[-1] = 0.1, 1.0
  return MDP(transitions, rewards, np.eye(length)[2], gamma)


def grid(size: int = 5, gamma: float = 0.95, slip: float = 0.1) -> MDP:
  """Makes a square with a goal that pays 1 per step and a pit that costs 1.

  Args:
    size: states per side. The start is one corner and the goal the opposite
      one; the pit is in the middle.
    gamma: discount.
    slip: probability that a move is drawn uniformly from the four.

  Returns:
    The problem. A move into a wall changes nothing; the goal is never left.
  """
  states = size * size
  direct = np.zeros((states, 4, states))
  for s in range(states):
    for a, (down, right) in enumerate(_MOVES):
      row, column = np.clip([s // size + down, s % size + right], 0, size - 1)
      direct[s, a, row * size + column] = 1
  transitions = (1 - slip) * direct + slip * direct.mean(axis=1, keepdims=True)
  transitions[-1] = np.eye(states)[-1]
  rewards = np.zeros((states, 4))
  rewards[-1], rewards[states // 2] = 1.0, -1.0
  return MDP(transitions, rewards, np.eye(states)[0], gamma)


def switched_corridor(gamma: float = 0.95) -> MDP:
  """Makes a corridor of three states that look alike and an end on the right.

  The second state switches left and right. This is example 13.1 of Sutton and
  Barto (2018): every step costs 1 until the end, which is never left. The best
  policy goes right with a probability between 1/2 and 1.
  """
  transitions = np.zeros((4, 2, 4))
  for s, (left, right) in enumerate(((0, 1), (2, 0), (1, 3), (3, 3))):
    transitions[s, 0, left] = transitions[s, 1, right] = 1
  rewards = np.array([[-1.0, -1.0]] * 3 + [[0.0, 0.0]])
  return MDP(transitions, rewards, np.eye(4)[0], gamma, np.array([0, 0, 0, 1]))
