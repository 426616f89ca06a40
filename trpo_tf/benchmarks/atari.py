"""Speed of the Atari sampler relative to the bare emulator, and its memory."""

import subprocess
import sys
from itertools import count

import numpy as np

from trpo_tf import config, seeding
from trpo_tf.benchmarks import resident, timing
from trpo_tf.experiment import backend
from trpo_tf.policies.normalizer import initial_normalizer
from trpo_tf.seeding import Stream

_MODULE = 'trpo_tf.benchmarks.bare_emulator'
_IDENTITY = initial_normalizer(0, enabled=False)  # frames stay as they are


def untrained(
  name: str, observation: str, **settings
) -> tuple[backend.Atari, np.ndarray]:
  """Resolves a game with 64 slots and draws an untrained policy.

  Args:
    name: name of the game.
    observation: 'paper' or 'nature', see AtariConfig.
    **settings: further settings by flag name.

  Returns:
    The game, and the policy's parameters theta, float32 [P].
  """
  settings = dict(
    task=f'atari/{name}',
    atari_observation=observation,
    hidden_sizes=(20,),
    num_slots=64,
    **settings,
  )
  made = backend.resolve(config.from_settings(settings))
  assert isinstance(made, backend.Atari)
  rng = seeding.generator(0, Stream.INITIAL_POLICY)
  return made, made.policy().initial_parameters(rng)


def batch_memory(name: str, steps: int, processes: int) -> dict:
  """Measures the memory of a batch of 52 x 40 frames.

  Args:
    name: name of the game.
    steps: env steps of the batch.
    processes: number of worker processes.

  Returns:
    game, steps and growth: bytes by which the peak memory of this process,
    which holds the batch, grows; None if unknown. Each of the workers holds the
    frames of one slot.
  """
  made, theta = untrained(
    name, 'paper', batch_steps=steps, sampler_threads=processes
  )
  sampler = made.paths()
  try:
    growth = resident.growth(lambda: sampler.sample(theta, _IDENTITY, 0))
  finally:
    sampler.close()
  return dict(game=name, steps=steps, growth=growth)


class _Emulators:
  """Processes that each step an emulator and do nothing else."""

  def __init__(self, rom: str, processes: int):
    command = [sys.executable, '-m', _MODULE, rom]
    self._processes = [
      subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
      )
      for _ in range(processes)
    ]

  def step(self, frames: int) -> None:
    """Emulates the given number of frames, divided among the processes."""
    share = frames // len(self._processes)
    for process in self._processes:
      print(share, file=process.stdin, flush=True)
    for process in self._processes:
      assert process.stdout
      process.stdout.readline()

  def close(self) -> None:
    """Ends the processes."""
    for process in self._processes:
      process.kill()
      process.wait()


def against_emulator(
  name: str, observation: str, steps: int, processes: int, pairs: int
) -> dict:
  """Times the sampler, with its policy in the loop, and bare emulators.

  Both emulate the same number of frames with as many processes, on the same
  cores, and begin games by restoring a state.

  Args:
    name: name of the game.
    observation: 'paper' or 'nature', see AtariConfig.
    steps: env steps of a timed call, four frames each.
    processes: number of processes that emulate.
    pairs: number of alternating timings.

  Returns:
    game, observation, frames_per_second of both, and sampler_over_emulator,
    the ratio of speeds.
  """
  made, theta = untrained(
    name, observation, batch_steps=steps, sampler_threads=processes
  )
  sampler = made.paths()
  emulators, iterations = _Emulators(made.game.rom, processes), count()
  frames = made.game.config.frame_skip * steps

  def sample() -> None:
    sampler.sample(theta, _IDENTITY, next(iterations))

  def emulate() -> None:
    emulators.step(frames)

  try:
    sample()
    emulate()
    times = timing.alternating([sample, emulate], pairs)
  finally:
    emulators.close()
    sampler.close()
  return dict(
    game=name,
    observation=observation,
    processes=processes,
    sampler_frames_per_second=frames / float(np.median(times[:, 0])),
    emulator_frames_per_second=frames / float(np.median(times[:, 1])),
    sampler_over_emulator=timing.ratio(times[:, 1], times[:, 0]),
  )
