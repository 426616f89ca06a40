"""The beginning of a run where another one ended (--init_from)."""

from typing import Any

from trpo_tf.config import ExperimentConfig, settings
from trpo_tf.errors import UserError
from trpo_tf.experiment import saved_runs, state_tree

__all__ = ['load']


def load(config: ExperimentConfig, fresh: dict[str, Any]) -> dict[str, Any]:
  """Takes the policy, the normaliser and the value network of another run.

  Its newest checkpoint is read. Everything else begins anew, and so does the
  value network if the run is an exported policy, which has none.

  Args:
    config: settings of the run that begins; --init_from names the other run.
    fresh: tree of the state of the run that begins.

  Returns:
    The tree of the state to begin with.

  Raises:
    UserError: there is no such run, its networks have other sizes, or it has
      other settings without which its policy is another one.
  """
  source = config.run.init_from
  other = saved_runs.read_config(source)
  if config.policy.policy and other.network_seed != config.network_seed:
    seed = other.network_seed
    raise UserError(
      f'--init_from={source}: its --policy drew from seed {seed}, this one '
      f'from {config.network_seed}: add --network_seed={seed}'
    )
  _check_equal(source, 'action_range', other, config)
  if not config.policy.policy:  # whose function has its own activation
    _check_equal(source, 'activation', other, config)
  saved = saved_runs.load_checkpoint(source).state
  try:
    state_tree.check_policy(saved, fresh)
    baseline = _baseline(saved, fresh)
  except ValueError as error:
    raise UserError(
      f'--init_from={source} is not a run with the same networks: {error}'
    ) from error
  return fresh | dict(
    theta=saved['theta'],
    normalizer=saved['normalizer'],
    learner=fresh['learner'] | baseline,
  )


def _check_equal(
  source: str, name: str, other: ExperimentConfig, config: ExperimentConfig
) -> None:
  """Raises UserError if the runs differ in a setting."""
  theirs, own = (settings(c)[name] for c in (other, config))
  if theirs != own:
    raise UserError(
      f'--init_from={source}: it has --{name}={theirs}, this run has '
      f'--{name}={own}: add --{name}={theirs}'
    )


def _baseline(saved: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
  """Returns {'baseline': its state}, or {} if either run has no baseline."""
  if 'baseline' not in fresh['learner'] or 'learner' not in saved:
    return {}
  learner = saved['learner']
  found = learner.get('baseline') if isinstance(learner, dict) else None
  if found is None:
    raise ValueError('it has no baseline')
  like = fresh['learner']['baseline']
  state_tree.check_like(
    found, like, 'state.learner.baseline', state_tree.GROWING
  )
  return {'baseline': found}
