"""From --method to its learner."""

from collections.abc import Callable
from typing import Any

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation.surrogate import Objective
from trpo_tf.methods import empirical_fisher, natural_gradient, policy_gradient
from trpo_tf.methods.cem import Cem
from trpo_tf.methods.cma import Cma
from trpo_tf.methods.kl_penalty import KlPenaltyLearner
from trpo_tf.methods.learner import Learner
from trpo_tf.methods.rwr import Rwr
from trpo_tf.methods.surrogate_learner import SurrogateLearner
from trpo_tf.optim import max_kl, trust_region
from trpo_tf.optim.step import Step

__all__ = ['make_learner']

_OWN_LEARNERS: dict[str, Callable[..., Learner]] = {
  'cem': Cem,
  'cma': Cma,
  'rwr': Rwr,
  'kl_penalty': KlPenaltyLearner,
}


def make_learner(policy: Any, config: ExperimentConfig) -> Learner:
  """The learner of --method for a policy.

  Raises:
    UserError: the method cannot do what the other settings ask for.
  """
  method, region = config.method, config.trust_region
  if method.method in _OWN_LEARNERS:
    return _OWN_LEARNERS[method.method](policy, config)
  if method.method == 'empirical_fisher' and config.sampler.sampler == 'vine':
    raise UserError(
      '--method=empirical_fisher is the covariance of the gradients along '
      'paths: take --sampler=single_path, or --method=trpo for the vine'
    )

  def make_step(objective: Objective, num_states: int) -> Step:
    if method.method == 'natural_gradient':
      return natural_gradient.make_step(
        policy, objective, region, method.lagrange_multiplier, num_states
      )
    if method.method == 'policy_gradient':
      return policy_gradient.make_step(
        policy, objective, method.l2_bound, num_states
      )
    make = {
      'trpo': trust_region.make_step,
      'max_kl': max_kl.make_step,
      'empirical_fisher': empirical_fisher.make_step,
    }[method.method]
    return make(policy, objective, region, num_states)

  return SurrogateLearner(policy, config, make_step)
