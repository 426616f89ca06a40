"""Training on one engine or another."""

import contextlib
from collections.abc import Iterator

from trpo_tf.config import ExperimentConfig
from trpo_tf.distributed import kit, local
from trpo_tf.distributed.learner import ShardedLearner, ShardedSampler
from trpo_tf.distributed.local import Engine, LocalEngine
from trpo_tf.errors import UserError
from trpo_tf.experiment import backend as backend_lib
from trpo_tf.experiment import devices, memory
from trpo_tf.experiment.backend import Backend
from trpo_tf.experiment.training import Training
from trpo_tf.methods.learner import Learner
from trpo_tf.policies.protocols import Policy
from trpo_tf.sampling.sampler import Sampler

__all__ = ['on_engine', 'training']


def on_engine(config: ExperimentConfig, engine: Engine) -> Training:
  """Builds a run whose shards are held by an engine.

  Args:
    config: the experiment.
    engine: calls the shards.

  Raises:
    UserError: the run cannot be cut into shards.
  """
  kit.check(config)

  def parts(backend: Backend, policy: Policy) -> tuple[Sampler, Learner]:
    del backend
    return (
      ShardedSampler(engine, config.sampler.num_shards),
      ShardedLearner(policy, config, engine),
    )

  return Training(config, make_parts=parts)


@contextlib.contextmanager
def training(
  config: ExperimentConfig, ray_address: str = '', ray_workers: int = 0
) -> Iterator[Training]:
  """Builds a run where its flags want it, and ends its workers afterwards.

  TensorFlow must not have run anything yet if the run has shards.

  Args:
    config: the experiment.
    ray_address: 'local', 'auto' or HOST:PORT of a Ray cluster; '': no Ray.
    ray_workers: number of Ray actors; 0: one per core of the cluster.

  Yields:
    The run.

  Raises:
    UserError: the run cannot be built, or cannot be cut into shards.
  """
  S = config.sampler.num_shards
  if S == 1 and ray_address:
    raise UserError(
      f'--ray_address={ray_address} needs shards that workers can hold: give '
      '--num_shards (see docs/cluster.md)'
    )
  if ray_workers > S:
    raise UserError(
      f'--ray_workers={ray_workers} exceeds --num_shards={S}: every worker '
      'needs a shard'
    )
  if S == 1:
    run = config.run
    devices.configure_tensorflow(
      run.tf_threads, run.device, run.deterministic_gpu
    )
    made = Training(config)
    try:
      yield made
    finally:
      made.sampler.close()
    return
  kit.check(config)
  local.one_thread_per_shard()
  with contextlib.ExitStack() as stack:
    if ray_address:
      from trpo_tf.distributed import ray_engine

      engine: Engine = stack.enter_context(
        ray_engine.connected(config, ray_address, ray_workers)
      )
    else:
      memory.check(backend_lib.resolve(config))
      engine = LocalEngine(config)
      stack.callback(engine.close)
    yield on_engine(config, engine)
