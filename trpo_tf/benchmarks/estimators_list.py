"""The estimators that bench_estimators compares."""

import dataclasses
from typing import Any, NamedTuple

from trpo_tf.config import EstimatorConfig, SamplerConfig

__all__ = ['SLOTS', 'Estimator', 'estimators']

SLOTS = 8


class Estimator(NamedTuple):
  """A way to turn env steps into a step of the policy.

  Attributes:
    name: what the tables call it.
    sampler: settings of the sampler.
    estimator: settings of returns and advantages.
  """

  name: str
  sampler: SamplerConfig
  estimator: EstimatorConfig


def _path(base: EstimatorConfig, steps: int, lam: float | None) -> Estimator:
  sampler = SamplerConfig(batch_steps=steps, num_slots=SLOTS)
  if lam is None:
    return Estimator(f'single path, GAE, {steps}', sampler, base)
  settings = dataclasses.replace(base, gae_lambda=lam)
  return Estimator(f'single path, lambda {lam:g}, {steps}', sampler, settings)


def _vine(
  base: EstimatorConfig,
  sizes: tuple[int, int, int, int],
  objective: str,
  proposal: str = 'policy',
  **settings: Any,
) -> Estimator:
  T, N, K, L = sizes
  sampler = SamplerConfig(
    sampler='vine',
    batch_steps=T,
    num_slots=SLOTS,
    rollout_set_size=N,
    branch_actions=K,
    branch_length=L,
    branch_proposal=proposal,
  )
  options = ', '.join(f'{k}={v}' for k, v in settings.items())
  parts = 'vine', objective, proposal * (proposal != 'policy'), options
  name = ', '.join(part for part in parts if part)
  return Estimator(
    f'{name}, {T}/{N}/{K}/{L}',
    sampler,
    dataclasses.replace(base, vine_objective=objective, **settings),
  )


def estimators(base: EstimatorConfig, steps: int) -> list[Estimator]:
  """Lists the estimators to compare at about equal numbers of env steps.

  Args:
    base: the settings of the run, with its value network.
    steps: env steps of a batch, a multiple of 80; single path also gets half
      and twice as many.
  """
  base = dataclasses.replace(base, value_epochs=1)  # its fit is not used
  half = steps // 2
  branches = half // 10
  short, wide = (half, branches, 2, 5), (half, branches // 2, 4, 5)
  few, long = (half * 3 // 2, branches // 2, 2, 5), (half, branches // 2, 2, 10)
  found = [_path(base, n, None) for n in (half, steps, 2 * steps)]
  found.append(_path(base, steps, 1.0))
  for objective in ('self_normalized', 'mean_baseline', 'importance_sampled'):
    found.append(_vine(base, short, objective))
  found.append(_vine(base, wide, 'self_normalized'))
  for sizes in (short, wide, few, long):
    for proposal in ('policy', 'antithetic'):
      found.append(_vine(base, sizes, 'every_step', proposal))
  found.append(_vine(base, short, 'every_step', occupancy_weights=False))
  for proposal in ('policy', 'antithetic'):
    found.append(
      _vine(base, short, 'every_step', proposal, amortized_advantage=True)
    )
  return found
