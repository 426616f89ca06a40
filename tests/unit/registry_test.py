"""Every method that a flag can name has a learner."""

from trpo_tf import config
from trpo_tf.methods import registry


def test_every_method_has_a_learner():
  assert set(registry.LEARNERS) == set(config.METHODS)
