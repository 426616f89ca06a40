"""sb3-contrib's TRPO on the same tasks: the other side of the comparison.

  python -m trpo_tf.benchmarks.rival 2 step 50000 5
  python -m trpo_tf.benchmarks.rival 2 train 20000
  python -m trpo_tf.benchmarks.rival 2 pong 10 8192

The first number is that of PyTorch's threads. This runs in a separate process,
as PyTorch and TensorFlow share no threads, and prints one line of JSON. It
needs the packages of the extra `bench`.
"""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def make_model(task: str = 'Hopper-v5', seed: int = 0, **changes: Any) -> Any:
  """Makes sb3-contrib's TRPO with its zoo's settings for MuJoCo tasks.

  Args:
    task: id of the environment in Gymnasium.
    seed: seed of the run.
    **changes: other settings.
  """
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
    seed=seed,
    device='cpu',
  )
  environment = VecNormalize(
    make_vec_env(task, n_envs=2, seed=seed), gamma=changes.get('gamma', 0.99)
  )
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

  model = make_model(
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
  return _training_speed(make_model(), env_steps)


def pong_steps_per_second(factor: int, env_steps: int) -> float:
  """Measures training on Pong; see rival_pong for the factor."""
  from trpo_tf.benchmarks import rival_pong

  return _training_speed(rival_pong.model(factor), env_steps, warm_up=1)


def _training_speed(model: Any, env_steps: int, warm_up: int = 2) -> float:
  model.learn(warm_up * model.n_steps * model.n_envs)
  begin, done = time.perf_counter(), model.num_timesteps
  model.learn(env_steps, reset_num_timesteps=False)
  return (model.num_timesteps - done) / (time.perf_counter() - begin)


@functools.cache
def best_threads(kind: str, *arguments: int) -> int:
  """Finds the number of PyTorch's threads with which a measurement is best.

  Args:
    kind: 'step', 'train' or 'pong'.
    arguments: of a short measurement.

  Returns:
    1, the number of cores, or a power of two between them; 1 if the rival's
    packages are not installed.
  """
  cores = len(os.sched_getaffinity(0))
  counts = [2**i for i in range(cores.bit_length()) if 2**i < cores] + [cores]
  found = {n: run(n, kind, *arguments) for n in counts}
  if None in found.values():
    return 1
  if kind == 'step':
    return min(counts, key=lambda n: min(found[n]))
  return max(counts, key=found.__getitem__)


def run(threads: int, kind: str, *arguments: int) -> Any:
  """Runs a measurement in a separate process.

  Args:
    threads: number of PyTorch's threads.
    kind: 'step', 'train' or 'pong'.
    arguments: as on the command line.

  Returns:
    The JSON value it printed, or None if the rival's packages are not
    installed.
  """
  command = [sys.executable, '-m', 'trpo_tf.benchmarks.rival']
  done = subprocess.run(
    [*command, str(threads), kind, *map(str, arguments)],
    capture_output=True,
    text=True,
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


def _main(threads: str, kind: str, *numbers: str) -> None:
  import torch

  torch.set_num_threads(int(threads))
  measures: dict[str, Callable[..., Any]] = {
    'step': policy_step_seconds,
    'train': env_steps_per_second,
    'pong': pong_steps_per_second,
  }
  print(json.dumps(measures[kind](*map(int, numbers))))


if __name__ == '__main__':
  _main(*sys.argv[1:])
