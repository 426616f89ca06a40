"""sb3-contrib's TRPO on Pong, with the settings of configs/atari/gae.flags.

Its CNN policy has two networks of the paper's convolutions on four frames of
52 x 40 pixels, as ours does. Our gradient is that of all states, and a tenth of
them enters the Fisher products. Its `sub_sampling_factor` leaves out states of
both.
"""

from typing import Any

import gymnasium as gym
import numpy as np

__all__ = ['model']

_ENVIRONMENTS = 16


class _Small(gym.ObservationWrapper):
  """Averages grey screens of 210 x 160 over 4 x 4 pixels."""

  def __init__(self, env: gym.Env):
    super().__init__(env)
    self.observation_space = gym.spaces.Box(0, 255, (52, 40, 1), np.uint8)

  def observation(self, observation: np.ndarray) -> np.ndarray:
    """Returns uint8 [52, 40, 1], without the first and the last row."""
    squares = observation[1:209].reshape(52, 4, 40, 4)
    sums = squares.sum(axis=(1, 3), dtype=np.uint16)
    return (sums // 16).astype(np.uint8)[..., np.newaxis]


def _environment() -> gym.Env:
  import ale_py
  from stable_baselines3.common import atari_wrappers, monitor

  gym.register_envs(ale_py)
  env: gym.Env = gym.make(
    'ALE/Pong-v5',
    obs_type='grayscale',
    frameskip=1,
    repeat_action_probability=0.0,
  )
  env = atari_wrappers.NoopResetEnv(monitor.Monitor(env), noop_max=30)
  env = _Small(atari_wrappers.MaxAndSkipEnv(env, skip=4))
  return atari_wrappers.ClipRewardEnv(env)


def model(factor: int) -> Any:
  """Makes the learner, whose environments run in processes of their own.

  Args:
    factor: one over the share of the states that enters a policy step.
  """
  import torch
  from sb3_contrib import TRPO
  from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
  from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

  class Convolutions(BaseFeaturesExtractor):
    """The convolutions of section 8.2 of the paper."""

    def __init__(self, observation_space: gym.Space):
      assert observation_space.shape
      channels, height, width = observation_space.shape
      sizes = [((n - 4) // 2 + 1 - 4) // 2 + 1 for n in (height, width)]
      super().__init__(observation_space, 16 * sizes[0] * sizes[1])
      self.layers = torch.nn.Sequential(
        torch.nn.Conv2d(channels, 16, 4, 2),
        torch.nn.Tanh(),
        torch.nn.Conv2d(16, 16, 4, 2),
        torch.nn.Tanh(),
        torch.nn.Flatten(),
      )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
      """Returns the features [n, F]."""
      return self.layers(observations)

  environments = SubprocVecEnv([_environment] * _ENVIRONMENTS)
  return TRPO(
    'CnnPolicy',
    VecFrameStack(environments, 4),
    n_steps=8192 // _ENVIRONMENTS,
    batch_size=256,
    n_critic_updates=4,
    cg_max_steps=10,
    cg_damping=0.01,
    target_kl=0.01,
    sub_sampling_factor=factor,
    learning_rate=1e-3,
    gamma=0.99,
    gae_lambda=0.95,
    seed=0,
    device='cpu',
    policy_kwargs=dict(
      features_extractor_class=Convolutions,
      share_features_extractor=False,
      net_arch=dict(pi=[20], vf=[64]),
      activation_fn=torch.nn.Tanh,
    ),
  )
