"""Maps --method to its learner."""

import functools
from collections.abc import Callable

from trpo_tf.config import ExperimentConfig
from trpo_tf.methods.cem import Cem
from trpo_tf.methods.cma import Cma
from trpo_tf.methods.kl_penalty import KlPenaltyLearner
from trpo_tf.methods.learner import Learner
from trpo_tf.methods.rwr import Rwr
from trpo_tf.methods.surrogate_learner import SurrogateLearner
from trpo_tf.optim import (
  empirical_fisher,
  max_kl,
  natural_gradient,
  policy_gradient,
  trust_region,
)
from trpo_tf.optim.step import MakeStep
from trpo_tf.policies.protocols import Policy

__all__ = ['LEARNERS', 'make_learner']

_MakeLearner = Callable[[Policy, ExperimentConfig], Learner]


def _takes(make_step: MakeStep) -> _MakeLearner:
  """Returns a function that makes a learner with this step."""
  return functools.partial(SurrogateLearner, make_step=make_step)


# Every method of config.METHODS.
LEARNERS: dict[str, _MakeLearner] = {
  'trpo': _takes(trust_region.make_step),
  'natural_gradient': _takes(natural_gradient.make_step),
  'max_kl': _takes(max_kl.make_step),
  'empirical_fisher': _takes(empirical_fisher.make_step),
  'policy_gradient': _takes(policy_gradient.make_step),
  'kl_penalty': KlPenaltyLearner,
  'cem': Cem,
  'cma': Cma,
  'rwr': Rwr,
}


def make_learner(policy: Policy, config: ExperimentConfig) -> Learner:
  """Makes the learner of --method.

  Args:
    policy: the policy to update.
    config: the experiment.

  Returns:
    The learner.

  Raises:
    UserError: the method cannot do what the other settings ask for.
  """
  return LEARNERS[config.method.method](policy, config)
