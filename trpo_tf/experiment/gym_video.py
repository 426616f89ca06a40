"""A video of an episode of an environment of Gymnasium."""

from trpo_tf.config import ExperimentConfig, TaskConfig
from trpo_tf.errors import UserError
from trpo_tf.experiment import video
from trpo_tf.sampling import draws
from trpo_tf.sampling.batch import Batch
from trpo_tf.tasks import environment
from trpo_tf.tasks.environment import Spaces

__all__ = ['require_images', 'write_video']


def require_images(task: TaskConfig) -> None:
  """Raises UserError if an environment says that it renders no images.

  Args:
    task: the task and its keyword arguments.
  """
  env = environment.raw(task.task, task.env_keywords)
  modes = env.metadata.get('render_modes') or ()
  env.close()
  if 'rgb_array' not in modes:
    raise UserError(
      f'--video: {task.task} does not render images (its render_modes '
      f'{list(modes)} lack rgb_array): leave --video out'
    )


def write_video(
  path: str, spaces: Spaces, config: ExperimentConfig, batch: Batch, slot: int
) -> None:
  """Repeats a recorded episode and renders it, in a separate process.

  Args:
    path: .mp4 or .gif to write.
    spaces: observations and actions of the environment.
    config: settings under which the batch was sampled (`evaluation_config`).
    batch: whole episodes, one per slot.
    slot: slot of the episode.

  Raises:
    UserError: the environment cannot be rendered here, or not be repeated.
    OSError: the file cannot be written.
  """
  task, length = config.task, batch.lengths[slot]
  _, controls = spaces.actions(task.task, task.action_range, task.clip_actions)
  fault = video.render(
    path,
    'trpo_tf.experiment.render_gym',
    task=task.task,
    keywords=task.env_kwargs,
    seed=draws.episode_seed(config.run.seed, slot, 0),
    actions=spaces.as_sent(controls(batch.actions[slot, :length])),
    rewards=batch.rewards[slot, :length],
  )
  if fault:
    raise UserError(f'--video: {task.task} cannot be rendered here: {fault}')
