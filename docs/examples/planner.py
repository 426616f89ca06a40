"""Best of K by rollouts: plans with branches alone, nothing is learned.

At every step K actions are tried from the very same state, each followed by
the same M sequences of random actions. The best on average is taken.
"""

import numpy as np

import trpo_tf


def plan(
  name: str,
  steps: int,
  seed: int = 0,
  actions: int = 32,
  trials: int = 4,
  horizon: int = 16,
) -> float:
  """The undiscounted return of the planner's first `steps` env steps."""
  task = trpo_tf.native_task(name)
  brancher, rng = trpo_tf.Brancher(task), np.random.default_rng(seed)
  now = trpo_tf.initial_snapshots(task, seed, 1)
  earned = 0.0
  for _ in range(steps):
    first = rng.uniform(task.low, task.high, (1, actions, task.action_size))
    noise = rng.standard_normal((1, trials, horizon, task.action_size))
    tried = brancher.branch(now, first, horizon, noise=noise)
    best = tried.returns.mean(axis=2).argmax()
    step = brancher.branch(now, first[:, [best]], 1, final_states=True)
    earned += step.returns.item()
    if step.ends.item():
      break
    now = step.snapshots()
  return earned


if __name__ == '__main__':
  print(
    f'Hopper-v5, 200 steps: {plan("Hopper-v5", 200):.0f} planned, '
    f'{plan("Hopper-v5", 200, actions=1):.0f} at random'
  )
