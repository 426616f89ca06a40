"""The wrappers and environments that are cloned by their attributes."""

from gymnasium import wrappers
from gymnasium.envs import classic_control, toy_text

__all__ = ['ENVIRONMENTS', 'WRAPPERS']

# Wrappers by exact class, with the attributes on which later steps depend.
WRAPPERS: dict[type, tuple[str, ...]] = {
  wrappers.AtariPreprocessing: ('obs_buffer', 'lives', 'game_over'),
  wrappers.Autoreset: ('autoreset',),
  wrappers.ClipAction: (),
  wrappers.ClipReward: (),
  wrappers.DelayObservation: ('observation_queue',),
  wrappers.DiscretizeAction: (),
  wrappers.DiscretizeObservation: (),
  wrappers.DtypeObservation: (),
  wrappers.FilterObservation: (),
  wrappers.FlattenObservation: (),
  wrappers.FrameStackObservation: ('obs_queue', 'padding_value'),
  wrappers.GrayscaleObservation: (),
  wrappers.MaxAndSkipObservation: ('_obs_buffer',),
  wrappers.OrderEnforcing: ('_has_reset',),
  wrappers.PassiveEnvChecker: (),
  wrappers.RepeatAction: (),
  wrappers.RescaleAction: (),
  wrappers.RescaleObservation: (),
  wrappers.ReshapeObservation: (),
  wrappers.ResizeObservation: (),
  wrappers.StickyAction: (
    'last_action',
    'is_sticky_actions',
    'num_repeats',
    'repeats_taken',
  ),
  wrappers.TimeAwareObservation: ('timesteps',),
  wrappers.TimeLimit: ('_elapsed_steps',),
}

# Environments by exact class, with the attributes that change.
ENVIRONMENTS: dict[type, tuple[str, ...]] = {
  classic_control.AcrobotEnv: ('state',),
  classic_control.CartPoleEnv: ('state', 'steps_beyond_terminated'),
  classic_control.Continuous_MountainCarEnv: ('state',),
  classic_control.MountainCarEnv: ('state',),
  classic_control.PendulumEnv: ('state', 'last_u'),
  toy_text.BlackjackEnv: ('dealer', 'player'),
  toy_text.CliffWalkingEnv: ('s', 'lastaction'),
  toy_text.FrozenLakeEnv: ('s', 'lastaction'),
  toy_text.TaxiEnv: ('s', 'lastaction', 'fickle_step', 'taxi_orientation'),
}
