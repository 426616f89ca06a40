"""Runs from Python of a native task whose iterations take milliseconds."""

import trpo_tf

SETTINGS = dict(
  task='InvertedPendulum-v5',
  batch_steps=200,
  num_slots=4,
  hidden_sizes=(8,),
  value_hidden_sizes=(),
  value_epochs=1,
  tensorboard=False,
)
EVALUATED = dict(eval_every_env_steps=400, eval_episodes=3)


def train(run_dir, total_env_steps=1600, **changes):
  """Trains in a directory; returns the iterations."""
  settings = SETTINGS | dict(seed=5, total_env_steps=total_env_steps) | changes
  return list(trpo_tf.train(run_dir=str(run_dir), **settings))
