"""The run of a directory in Weights & Biases and in MLflow.

Both continue the same run when the directory's run continues, by the id in
run.json. A run that resumes repeats the iterations since its checkpoint with
the same numbers, so what the service has already is not sent again.
"""

import logging
import pathlib
import time
from collections.abc import Mapping

from trpo_tf import config as config_lib
from trpo_tf.config import ExperimentConfig
from trpo_tf.experiment import flagfiles

__all__ = ['MLflow', 'WeightsAndBiases']

_FINISH_SECONDS = 50.0  # to upload what is left; less than trackers waits
_TAG = 'trpo_tf.run'  # holds the id of a run in MLflow
_BATCH = 100  # most parameters that MLflow takes at once


class WeightsAndBiases:
  """A run of W&B, whose library keeps what it has on the step of a point."""

  def __init__(
    self, project: str, id: str, run_dir: pathlib.Path, config: ExperimentConfig
  ):
    """Begins or continues the run.

    Args:
      project: name of the project.
      id: of the run; W&B takes it for its own.
      run_dir: directory of the run; its folder wandb/ holds the files of W&B.
      config: settings of the run.
    """
    import wandb

    self._run = wandb.init(
      project=project,
      id=id,
      name=_name(run_dir),
      dir=str(run_dir),
      config=config_lib.settings(config),
      allow_val_change=True,  # a run may resume with more env steps
      resume='allow',
      settings=wandb.Settings(
        silent=True,
        console='off',  # the terminal is ours
        reinit='create_new',  # there may be other runs in this process
        finish_timeout=_FINISH_SECONDS,
        finish_timeout_raises=True,
      ),
    )

  def log(self, env_steps: int, scalars: Mapping[str, float]) -> None:
    """See trackers.Service."""
    self._run.log(dict(scalars), step=env_steps)

  def finish(self) -> None:
    """See trackers.Service."""
    self._run.finish()


class MLflow:
  """A run of MLflow, where MLFLOW_TRACKING_URI says."""

  def __init__(
    self,
    experiment: str,
    id: str,
    run_dir: pathlib.Path,
    config: ExperimentConfig,
  ):
    """Begins the run, or continues the one that has the id as a tag.

    Args:
      experiment: name of the experiment; it is created if it is missing.
      id: of the run.
      run_dir: directory of the run.
      config: settings of the run.
    """
    import mlflow
    from mlflow import entities

    # else it tells of the tables of a new database
    logging.getLogger('mlflow').setLevel(logging.WARNING)
    self._metric = entities.Metric
    self._client = client = mlflow.MlflowClient()
    place = _experiment_id(client, experiment)
    found = client.search_runs([place], f"tags.`{_TAG}` = '{id}'")
    if found:
      self._id = found[0].info.run_id
      self._last = found[0].data.metrics.get('progress/env_steps', 0)
      client.update_run(self._id, status='RUNNING')
      return
    run = client.create_run(place, tags={_TAG: id}, run_name=_name(run_dir))
    self._id, self._last = run.info.run_id, 0
    params = [
      entities.Param(name, flagfiles.flag_text(value))
      for name, value in config_lib.settings(config).items()
    ]
    for begin in range(0, len(params), _BATCH):
      client.log_batch(self._id, params=params[begin : begin + _BATCH])

  def log(self, env_steps: int, scalars: Mapping[str, float]) -> None:
    """See trackers.Service."""
    if env_steps <= self._last:
      return
    now = round(1000 * time.time())
    metrics = [
      self._metric(tag, value, now, env_steps) for tag, value in scalars.items()
    ]
    self._client.log_batch(self._id, metrics=metrics)

  def finish(self) -> None:
    """See trackers.Service."""
    self._client.set_terminated(self._id)


def _name(run_dir: pathlib.Path) -> str:
  """Names a run for people; a sweep's is hopper/max_kl=0.01/0, for example."""
  return str(pathlib.Path(*run_dir.parts[-3:]))


def _experiment_id(client, name: str) -> str:
  """Finds or creates an experiment, which another run may do as well."""
  found = client.get_experiment_by_name(name)
  if found is not None:
    return found.experiment_id
  try:
    return client.create_experiment(name)
  except Exception:
    found = client.get_experiment_by_name(name)
    if found is None:
      raise
    return found.experiment_id
