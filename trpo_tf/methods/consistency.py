"""Checks that the sampler acted by the policy that is about to be updated."""

import functools

import numpy as np

from trpo_tf.estimation import surrogate
from trpo_tf.estimation.surrogate import Consistency
from trpo_tf.policies.protocols import Inputs, Policy
from trpo_tf.sampling.batch import Batch

__all__ = ['SamplerMismatch', 'check']

_OUTPUT_TOLERANCE = 1e-4
_LOG_PROB_TOLERANCE = 1e-2


class SamplerMismatch(RuntimeError):
  """The sampler's policy is not the one that is about to be updated."""


def check(
  policy: Policy,
  theta: np.ndarray,
  x: Inputs,
  batch: Batch,
  outputs: np.ndarray | None = None,
) -> Consistency:
  """Compares what the sampler recorded with the policy in TensorFlow.

  Args:
    policy: the policy.
    theta: float32 [P], the policy that sampled the batch.
    x: inputs of the batch's N kept steps.
    batch: the experience.
    outputs: float32 [N, M], what TensorFlow computes there, if it is known.

  Returns:
    The largest differences.

  Raises:
    SamplerMismatch: they are larger than rounding explains.
  """
  recompute = functools.partial(
    surrogate.check_consistency,
    policy,
    theta,
    x,
    batch.steps('actions'),
    batch.steps('outputs'),
    batch.steps('log_probs'),
    recomputed=outputs,
  )
  found = recompute()
  if found.log_probs_error > _LOG_PROB_TOLERANCE:
    # a small deviation magnifies the rounding of the outputs
    found = recompute(rounding=True)
  scale = 1 + np.abs(batch.steps('outputs')[found.outputs_row]).max()
  if (
    found.outputs_error <= _OUTPUT_TOLERANCE * scale
    and found.log_probs_error <= _LOG_PROB_TOLERANCE
  ):
    return found
  raise SamplerMismatch(
    "the sampler's policy and TensorFlow's differ: outputs by "
    f'{found.outputs_error:.3g} at row {found.outputs_row}, '
    f'log-probabilities by {found.log_probs_error:.3g} at row '
    f'{found.log_probs_row}'
  )
