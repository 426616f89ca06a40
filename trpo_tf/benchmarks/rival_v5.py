"""Trains sb3-contrib's TRPO on the v5 tasks with its zoo's settings.

  python -m trpo_tf.benchmarks.rival_v5 Hopper-v5 0 docs/results/rival

A finished run writes DIRECTORY/TASK/SEED.json: the returns of 20 episodes of
the mean policy and of 20 with sampled actions (100 on Pusher and Reacher, whose
episodes are short), the training returns, and the seconds. A run that is there
already is not repeated. PyTorch has the number of threads that trains fastest
on Hopper.

The zoo has settings for Ant, HalfCheetah, Hopper, Humanoid, Swimmer and
Walker2d; the other tasks get those that most of these share (rl-baselines3-zoo,
hyperparams/trpo.yml). It needs the packages of the extra `bench`.
"""

import pathlib
import sys
import time
from typing import Any

import numpy as np

from trpo_tf import extras
from trpo_tf.benchmarks import rival
from trpo_tf.errors import UserError
from trpo_tf.experiment import result_files

__all__ = ['SPECIAL', 'train']

SPECIAL: dict[str, dict[str, Any]] = {
  'HalfCheetah-v5': dict(target_kl=0.04),
  'Swimmer-v5': dict(gamma=0.9999),
}
_ENV_STEPS, _EPISODES = 1_000_000, 20
_MORE_EPISODES = {'Pusher-v5': 100, 'Reacher-v5': 100}


def train(task: str, seed: int) -> dict[str, Any]:
  """Trains and evaluates.

  Args:
    task: id of the environment in Gymnasium.
    seed: seed of the run.

  Returns:
    What the file of a run has.
  """
  import torch
  from stable_baselines3.common.env_util import make_vec_env
  from stable_baselines3.common.evaluation import evaluate_policy
  from stable_baselines3.common.vec_env import VecNormalize

  threads = rival.best_threads('train', 8192)
  torch.set_num_threads(threads)
  model = rival.make_model(task, seed=seed, **SPECIAL.get(task, {}))
  begin = time.perf_counter()
  model.learn(_ENV_STEPS)
  seconds = time.perf_counter() - begin
  normalizer = model.get_vec_normalize_env()
  assert normalizer is not None
  alone = VecNormalize(
    make_vec_env(task, n_envs=1, seed=10_000 + seed),
    training=False,
    norm_reward=False,
  )
  alone.obs_rms = normalizer.obs_rms
  found: dict[str, Any] = {}
  for name, deterministic in (('deterministic', True), ('sampled', False)):
    returns, _ = evaluate_policy(
      model,
      alone,
      n_eval_episodes=_MORE_EPISODES.get(task, _EPISODES),
      deterministic=deterministic,
      return_episode_rewards=True,
    )
    found[name] = returns
  assert model.ep_info_buffer is not None
  last = [float(episode['r']) for episode in model.ep_info_buffer]
  return dict(
    task=task,
    seed=seed,
    env_steps=model.num_timesteps,
    seconds=seconds,
    threads=threads,
    versions=rival.versions(),
    training_return_of_last_100=float(np.mean(last)),
    **found,
  )


def main(arguments: list[str]) -> None:
  """Does the run that the arguments name: task, seed and directory."""
  if len(arguments) != 3 or not arguments[1].isdecimal():
    raise UserError(
      'name a task, a seed and a directory: python -m '
      'trpo_tf.benchmarks.rival_v5 Hopper-v5 0 docs/results/rival'
    )
  for package in ('torch', 'sb3_contrib'):
    extras.require(package, 'bench', 'the comparison')
  task, seed, directory = arguments
  path = pathlib.Path(directory) / task / f'{seed}.json'
  if path.exists():
    print(f'{path} is there')
    return
  result_files.require_writable(path)
  found = train(task, int(seed))
  result_files.write_json(path, found)
  mean = np.mean(found['deterministic'])
  print(f'{path}: {mean:.0f} in {found["seconds"]:.0f} s')


if __name__ == '__main__':
  try:
    main(sys.argv[1:])
  except UserError as error:
    sys.exit(f'rival_v5: {error}')
