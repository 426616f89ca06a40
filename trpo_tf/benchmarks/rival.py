"""sb3-contrib's TRPO on the same tasks: the other side of the comparison.

  python -m trpo_tf.benchmarks.rival step 50000 5
  python -m trpo_tf.benchmarks.rival train 20000

This runs in a separate process, as PyTorch and TensorFlow share no threads, and
prints one line of JSON. It needs the packages of the extra `bench`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def _model(**changes: Any):
  """Makes sb3-contrib's TRPO on Hopper-v5 with its zoo's settings."""
  from sb3_contrib import TRPO
  from stable_baselines3.common.env_util import make_vec_env
  from stable_baselines3.common.vec_env import VecNormalize

  settings = dict(
    n_steps=1024,
    batch_size=128,
    n_critic_updates=20,
    cg_max_steps=25,
    cg_damping=0.1,
    learning_rate=1e-3,
    gamma=0.99,
    gae_lambda=0.95,
    seed=0,
    device='cpu',
  )
  environment = VecNormalize(make_vec_env('Hopper-v5', n_envs=2, seed=0))
  return TRPO('MlpPolicy', environment, **settings | changes)


def policy_step_seconds(num_states: int, repeats: int) -> list[float]:
  """Times policy steps on random data, without updates of the critic.

  Args:
    num_states: states per step.
    repeats: number of timed steps.

  Returns:
    Seconds of each step.
  """
  import torch

  model = _model(
    n_steps=num_states // 2,
    batch_size=num_states,
    n_critic_updates=0,
    cg_max_steps=10,
  )
  buffer, rng = model.rollout_buffer, np.random.default_rng(0)
  model._setup_learn(1)
  model.policy.set_training_mode(True)
  seconds = []
  for _ in range(repeats + 1):
    buffer.reset()
    buffer.observations[:] = rng.standard_normal(buffer.observations.shape)
    flat = torch.as_tensor(
      buffer.observations.reshape(-1, buffer.observations.shape[-1])
    )
    with torch.no_grad():
      actions, _, log_probs = model.policy(flat)
    buffer.actions[:] = actions.numpy().reshape(buffer.actions.shape)
    buffer.log_probs[:] = log_probs.numpy().reshape(buffer.log_probs.shape)
    buffer.advantages[:] = rng.standard_normal(buffer.advantages.shape)
    buffer.full = True
    begin = time.perf_counter()
    model.train()
    seconds.append(time.perf_counter() - begin)
  return seconds[1:]


def env_steps_per_second(env_steps: int) -> float:
  """Measures training end to end, after two iterations of warm-up."""
  model = _model()
  model.learn(4096)
  begin, done = time.perf_counter(), model.num_timesteps
  model.learn(env_steps, reset_num_timesteps=False)
  return (model.num_timesteps - done) / (time.perf_counter() - begin)


def run(*arguments: Any) -> Any:
  """Runs a measurement in a separate process.

  Args:
    arguments: as on the command line.

  Returns:
    The JSON value it printed, or None if the rival's packages are not
    installed.
  """
  command = [sys.executable, '-m', 'trpo_tf.benchmarks.rival']
  done = subprocess.run(
    command + [str(a) for a in arguments], capture_output=True, text=True
  )
  if done.returncode == 0:
    return json.loads(done.stdout.strip().splitlines()[-1])
  if 'No module named' in done.stderr:
    return None
  raise RuntimeError(done.stderr)


def versions() -> dict[str, str]:
  """Returns the versions of the rival's packages; {} if one is missing."""
  import importlib.metadata as metadata

  found = {}
  for name in ('sb3-contrib', 'stable-baselines3', 'torch'):
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      return {}
  return found


if __name__ == '__main__':
  kind, *numbers = sys.argv[1:]
  measures: dict[str, Callable[..., Any]] = {
    'step': policy_step_seconds,
    'train': env_steps_per_second,
  }
  print(json.dumps(measures[kind](*map(int, numbers))))
