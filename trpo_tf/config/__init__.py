"""Every setting of an experiment: its default, unit, range and meaning."""

from trpo_tf.config.experiment import (
  ExperimentConfig,
  from_settings,
  settings,
)
from trpo_tf.config.fields import Config, setting
from trpo_tf.config.groups import (
  AtariConfig,
  EstimatorConfig,
  PolicyConfig,
  TaskConfig,
  TrustRegionConfig,
)
from trpo_tf.config.methods import (
  METHODS,
  POPULATION_METHODS,
  STEP_METHODS,
  MethodConfig,
)
from trpo_tf.config.run import RunConfig
from trpo_tf.config.sampler import SamplerConfig

__all__ = [
  'METHODS',
  'POPULATION_METHODS',
  'STEP_METHODS',
  'AtariConfig',
  'Config',
  'EstimatorConfig',
  'ExperimentConfig',
  'MethodConfig',
  'PolicyConfig',
  'RunConfig',
  'SamplerConfig',
  'TaskConfig',
  'TrustRegionConfig',
  'from_settings',
  'setting',
  'settings',
]
