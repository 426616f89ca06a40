"""An estimate of a run's memory, before anything is built.

It counts the program itself and the arrays that grow with a setting, to within
a factor of two. A run that cannot fit is refused with the flags to change;
otherwise it would end in a failed allocation, or in minutes without an answer.
"""

import math
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from trpo_tf.config import POPULATION_METHODS
from trpo_tf.errors import UserError
from trpo_tf.estimation import amortized
from trpo_tf.experiment.backend import Atari, Backend, Gym, Native
from trpo_tf.optim.problem import KEPT_BYTES
from trpo_tf.policies.protocols import Network
from trpo_tf.policies.stacks import FrameStacks
from trpo_tf.sampling.threads import available_cores

__all__ = [
  'Part',
  'available',
  'check',
  'check_evaluation',
  'estimate',
  'gigabytes',
]

_CGROUP_LIMITS = (
  '/sys/fs/cgroup/memory.max',
  '/sys/fs/cgroup/memory/memory.limit_in_bytes',
)
_LONG_EPISODE = 1000  # env steps that a whole episode is taken to last at most
_STATE_CHUNK = 512  # states that a convolution sees at once
# Bytes for each parameter: theta, what conjugate gradient and the line search
# keep, in float64, and the factorisation that draws the initial weights.
_PER_PARAMETER = 160
_PER_CLONE = 20_000  # bytes of the state of an environment or an emulator
_PER_WORKER = 60e6  # bytes of a process with a game or with environments


class Part(NamedTuple):
  """Arrays that grow with the same settings.

  Attributes:
    name: what they hold.
    size: bytes.
    flags: the flags to lower; none if no flag does.
  """

  name: str
  size: float
  flags: tuple[str, ...] = ()


# after a few iterations of the smallest run, with all that TensorFlow compiles
_PROGRAM = Part('Python and TensorFlow', 800e6)


def check(backend: Backend) -> None:
  """Raises UserError if a run needs more memory than the machine has.

  Args:
    backend: the task with the settings of the run.
  """
  _require('the run', estimate(backend))


def check_evaluation(backend: Backend, flag: str = '--episodes') -> None:
  """Raises UserError if an evaluation needs more memory than there is.

  Args:
    backend: the task with the settings of the evaluation.
    flag: the flag that says how many episodes it has.
  """
  outputs, frame = backend.policy().output_size, _observation_bytes(backend)
  if isinstance(backend, Atari):
    parts = _paths(backend, 16, outputs, backend.game.time_limit)
    # which a process keeps until its episode ends, and sometimes a copy
    parts.append(_workers(backend, 2 * frame * backend.game.time_limit))
  else:
    parts = _paths(backend, frame, outputs)
  few = [part._replace(flags=(flag,)) for part in parts]
  _require('the evaluation', [_PROGRAM, *few])


def _require(what: str, parts: Sequence[Part]) -> None:
  needed, limit = sum(part.size for part in parts), available()
  if needed <= limit:
    return
  largest = max((p for p in parts if p.flags), key=lambda part: part.size)
  raise UserError(
    f'{what} needs about {gigabytes(needed)} of memory, '
    f'{gigabytes(largest.size)} of them for {largest.name}, and there are '
    f'{gigabytes(limit)}: lower {" or ".join(largest.flags)}'
  )


def gigabytes(size: float) -> str:
  """Formats a number of bytes."""
  return f'{size / 1e9:.3g} GB'


def available() -> int:
  """Returns the bytes of memory that this process may use at most."""
  limits = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
  for name in _CGROUP_LIMITS:
    path = pathlib.Path(name)
    text = path.read_text().strip() if path.is_file() else 'max'
    if text.isdigit():
      limits.append(int(text))
  return min(limits)


def estimate(backend: Backend) -> list[Part]:
  """Estimates the memory of a run by its parts.

  Args:
    backend: the task with the settings of the run.
  """
  config, policy = backend.config, backend.policy()
  network = policy.network
  value = network.with_layers(config.estimator.value_hidden_sizes, 1, 'tanh')
  observation = _observation_bytes(backend)
  parts = [
    _PROGRAM,
    *_paths(backend, observation, policy.output_size),
    *_networks(backend, network, value),
  ]
  parts.append(_workers(backend))
  if config.sampler.sampler == 'vine':
    parts.append(_branches(backend, observation, policy.output_size, value))
  if config.estimator.amortized_advantage:
    parts.append(_amortized(backend, observation, policy.output_size))
  return parts


def _workers(backend: Backend, more: float = 0) -> Part:
  """The processes with games or environments, with more bytes in each."""
  sampler = backend.config.sampler
  flag, workers = '--env_workers', sampler.env_workers * sampler.num_shards
  if isinstance(backend, Atari):
    flag, workers = '--num_shards', sampler.num_shards
    if workers == 1:
      flag = '--sampler_threads'
      workers = sampler.sampler_threads or available_cores()
  size = (_PER_WORKER + more) * min(workers, sampler.num_slots)
  return Part('the workers', size, (flag,))


def _convolves(backend: Backend) -> bool:
  """Whether observations are frames, which stay bytes, or images."""
  return isinstance(backend.policy().network.input_spec, FrameStacks)


def _observation_bytes(backend: Backend) -> int:
  """Bytes of an observation in a batch, of which Atari stores a frame once."""
  if isinstance(backend, Atari):
    return math.prod(backend.game.frame_shape) + 16
  size = backend.policy().observation_size
  return size + 16 if _convolves(backend) else 4 * size


def _time_limit(backend: Backend) -> float:
  """Env steps after which an episode is truncated."""
  if isinstance(backend, Native):
    return backend.task.task.time_limit
  if isinstance(backend, Atari):
    return backend.game.time_limit
  limit = backend.spaces.time_limit if isinstance(backend, Gym) else None
  return math.inf if limit is None else limit


def _learned_steps(backend: Backend, longest: float = _LONG_EPISODE) -> float:
  """About how many steps of paths a batch has."""
  sampler = backend.config.sampler
  if not sampler.whole_episodes:
    return sampler.batch_steps
  longest = min(_time_limit(backend), longest)
  return max(sampler.batch_steps, sampler.num_slots * longest)


def _paths(
  backend: Backend,
  observation: int,
  outputs: int,
  longest: float = _LONG_EPISODE,
) -> list[Part]:
  """The steps of the paths, and the simulations of the slots."""
  sampler = backend.config.sampler
  flags: tuple[str, ...] = ('--batch_steps',)
  if isinstance(backend, Native):
    # the records are allocated for the longest batch; see NativeSlots
    task, steps = backend.task, float(sampler.batch_steps)
    if sampler.whole_episodes:
      steps += sampler.num_slots * (task.task.time_limit - 1)
      flags = '--time_limit', '--num_slots', '--batch_steps'
    action = 20 * outputs  # the action, its mean and its noise
    sampled = steps * (observation + action + 8 * len(task.term_names) + 37)
    width = task.model.nq + 2 * task.model.nv + 6 * task.model.nbody
    slot = 16 * width + 8 * task.program.num_registers + 4 * observation
  else:
    # lists of arrays, which are then stacked and padded
    stored = observation if _convolves(backend) else 3 * observation
    sampled = _learned_steps(backend, longest) * (stored + 48 * outputs + 300)
    slot = _PER_CLONE + 4 * observation
    if sampler.whole_episodes:
      flags = '--num_slots', '--batch_steps'
  return [
    Part('the steps of a batch', sampled, flags),
    Part('the slots', sampler.num_slots * slot, ('--num_slots',)),
  ]


def _networks(backend: Backend, network: Network, value: Network) -> list[Part]:
  """Parameters, and what the networks compute on a batch."""
  config, P = backend.config, network.num_parameters
  pixels = _convolves(backend)
  filters = ('--conv_filters',) if pixels else ()
  hidden: tuple[str, ...] = ('--hidden_sizes', *filters)
  if config.policy.policy:
    hidden = ('the size of the network of --policy',)
  value_hidden = ('--value_hidden_sizes', *filters)
  parts = [Part('the policy', _PER_PARAMETER * P, hidden)]
  if config.method.method in POPULATION_METHODS:
    drawn = 24 * config.sampler.num_slots * P
    return [*parts, Part('the candidates', drawn, ('--num_slots', *hidden))]
  steps = _learned_steps(backend)
  if config.uses_every_step:
    steps += config.max_branch_steps()
  states = steps
  if config.sampler.sampler == 'vine' and not config.uses_every_step:
    states = config.sampler.rollout_set_size
  flat = _observation_bytes(backend) * (1 if pixels else 2)
  activations = 8 * network.activation_size * _at_once(backend, states)
  fraction = config.trust_region.fisher_fraction
  if pixels and fraction < 1:
    kept = 4 * network.activation_size * fraction * states
    activations += min(kept, KEPT_BYTES)
  parts += [
    Part('the policy on a batch', activations, (*hidden, '--batch_steps')),
    Part('the inputs of a batch', steps * (flat + 150), ('--batch_steps',)),
  ]
  if config.estimator.baseline == 'value_network':
    size, epochs = (
      config.estimator.value_minibatch,
      config.estimator.value_epochs,
    )
    parameters = _PER_PARAMETER * value.num_parameters
    at_once = 4 * value.activation_size * _at_once(backend, steps)
    rows = 16 * epochs * max(size, steps)
    minibatch = rows + 12 * size * value.activation_size
    parts += [
      Part('the value network', parameters + at_once, value_hidden),
      Part(
        'the minibatches', minibatch, ('--value_minibatch', '--value_epochs')
      ),
    ]
  return parts


def _at_once(backend: Backend, states: float) -> float:
  """States whose activations are in memory together."""
  return min(states, _STATE_CHUNK) if _convolves(backend) else states


def _branches(
  backend: Backend, observation: int, outputs: int, value: Network
) -> Part:
  """The branches of a vine."""
  config = backend.config
  sampler = config.sampler
  N, K, M = (
    sampler.rollout_set_size,
    sampler.branch_actions,
    sampler.branch_trials,
  )
  if sampler.branch_proposal == 'all':
    K = backend.policy().num_actions
  noise = 8 * N * M * sampler.branch_length * outputs
  clones = N * _PER_CLONE
  ends: float = N * K * M * (observation + 40) + N * K * 16 * (outputs + 1)
  if config.estimator.baseline == 'value_network':
    ends += 2 * N * K * M * observation + 4 * value.activation_size * _at_once(
      backend, N * K * M
    )
  steps = 0.0
  if config.uses_every_step:  # as recorded, and as parts of the batch
    steps = config.max_branch_steps() * (2 * observation + 20 * outputs + 60)
  flags = ['--rollout_set_size']
  flags += (
    ['--branch_trials', '--branch_length']
    if noise + steps > ends
    else ['--branch_actions', '--branch_trials']
  )
  return Part('the branches', noise + clones + ends + steps, tuple(flags))


def _amortized(backend: Backend, observation: int, outputs: int) -> Part:
  """A_phi at every step, and the matrix of its regression."""
  steps = _learned_steps(backend) + backend.config.max_branch_steps()
  features = 3 * (observation + 4 * amortized.FEATURES)  # float32 and float64
  matrix = 4 * 8 * amortized.PAIRS**2  # its factors and the solver's copy
  size = matrix + steps * (features + 100 * outputs)
  return Part('the advantages of pairs', size, ('--batch_steps',))
