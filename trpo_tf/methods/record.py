"""The record of an iteration: one row of progress.csv.

The fields of IterationRecord are the columns of progress.csv and the scalars of
TensorBoard. A field's metadata has its TensorBoard group, its unit and its
meaning. `docs/progress.md` shows them as a table.
"""

import dataclasses
from typing import Any

__all__ = ['COLUMNS', 'IterationRecord', 'groups']


def _column(default: Any, group: str, unit: str, meaning: str) -> Any:
  metadata = dict(group=group, unit=unit, meaning=meaning)
  return dataclasses.field(default=default, metadata=metadata)


_NAN = float('nan')


@dataclasses.dataclass(frozen=True)
class IterationRecord:
  """The numbers of one iteration, in the order of the CSV columns.

  A learner sets the numbers of its update, and the training loop adds the
  others. A number that a method does not have keeps its default, which is NaN
  for floats and 0 for counts.
  """

  iteration: int = _column(
    0, 'progress', 'iterations', 'iterations done, this one included'
  )
  env_steps: int = _column(
    0,
    'progress',
    'env steps',
    'env steps simulated since the beginning of the run, dropped ones and '
    'those of branches included',
  )
  episodes: int = _column(
    0, 'progress', 'episodes', 'episodes ended since the beginning of the run'
  )
  return_mean: float = _column(
    _NAN,
    'episode',
    'return',
    'mean undiscounted return of the episodes that ended in this iteration; '
    'NaN if none did',
  )
  return_std: float = _column(
    _NAN, 'episode', 'return', 'standard deviation of these returns'
  )
  return_min: float = _column(
    _NAN, 'episode', 'return', 'smallest of these returns'
  )
  return_max: float = _column(
    _NAN, 'episode', 'return', 'largest of these returns'
  )
  episode_length_mean: float = _column(
    _NAN, 'episode', 'env steps', 'mean length of these episodes'
  )
  mean_kl: float = _column(
    _NAN,
    'step',
    'nats',
    'KL divergence of the new policy from the old one, mean over the states; '
    '0 if the step was refused',
  )
  max_state_kl: float = _column(
    _NAN, 'step', 'nats', 'largest such KL divergence of a state'
  )
  surrogate_before: float = _column(
    _NAN,
    'step',
    "the objective's",
    'surrogate at the old policy, with its entropy bonus, if any (rwr: '
    'weighted log-likelihood, in nats)',
  )
  surrogate_after: float = _column(
    _NAN, 'step', "the objective's", 'surrogate at the new policy'
  )
  step_status: str = _column(
    'none',
    'step',
    'name',
    'why the step was taken or refused: accepted, zero_gradient, '
    'non_finite_gradient, non_positive_curvature, kl_exceeded or '
    'no_improvement',
  )
  step_fraction: float = _column(
    _NAN,
    'step',
    'fraction',
    'part of the first step that the line search accepted; 0 if none',
  )
  step_evaluations: int = _column(
    0,
    'step',
    'evaluations',
    'candidates tried by the line search, or evaluations of L-BFGS',
  )
  cg_iterations: int = _column(
    0, 'step', 'iterations', 'iterations of conjugate gradient'
  )
  cg_residual: float = _column(
    _NAN,
    'step',
    'fraction',
    "final residual norm of conjugate gradient over the gradient's norm",
  )
  gradient_norm: float = _column(
    _NAN,
    'step',
    "the objective's per parameter",
    "norm of the surrogate's gradient in the parameters",
  )
  curvature: float = _column(
    _NAN,
    'step',
    'nats',
    's^T A s of the direction s, without damping (max_kl: the largest of a '
    'state)',
  )
  entropy: float = _column(
    _NAN, 'policy', 'nats', 'entropy of the old policy, mean over the states'
  )
  explained_variance: float = _column(
    _NAN,
    'value',
    'fraction',
    'part of the variance of its targets that the baseline explained, before '
    'it was fitted to them',
  )
  value_loss: float = _column(
    _NAN,
    'value',
    'return squared',
    'mean squared error of the baseline after the fit',
  )
  clipped_action_fraction: float = _column(
    0.0,
    'sampler',
    'fraction',
    'action components outside the control range',
  )
  sampler_output_error: float = _column(
    _NAN,
    'sampler',
    "the network outputs'",
    'largest difference of a network output between the sampler and TensorFlow',
  )
  diverged: int = _column(0, 'sampler', 'simulations', 'simulations that broke')
  dropped_steps: int = _column(
    0,
    'sampler',
    'env steps',
    'env steps of paths that were left out of the update',
  )
  branch_steps: int = _column(
    0, 'sampler', 'env steps', "env steps of the vine's branches"
  )
  masked_states: int = _column(
    0,
    'sampler',
    'states',
    'states of the rollout set that were left out of the update',
  )
  sample_seconds: float = _column(
    _NAN, 'time', 'seconds', 'time to collect the batch'
  )
  update_seconds: float = _column(
    _NAN,
    'time',
    'seconds',
    'time to update the policy, the baseline and the normaliser',
  )
  env_steps_per_second: float = _column(
    _NAN,
    'time',
    'env steps per second',
    'env steps of this iteration over its time',
  )
  elapsed_seconds: float = _column(
    0.0,
    'time',
    'seconds',
    'time of all iterations so far, over all sessions of the run',
  )


_FIELDS = dataclasses.fields(IterationRecord)
COLUMNS = tuple(field.name for field in _FIELDS)


def groups() -> dict[str, tuple[str, ...]]:
  """Returns the columns of each TensorBoard group, in the order of the CSV."""
  found: dict[str, tuple[str, ...]] = {}
  for field in _FIELDS:
    group = field.metadata['group']
    found[group] = (*found.get(group, ()), field.name)
  return found
