"""Attacks that are made in child processes, so that a crash is counted."""

import multiprocessing
from collections.abc import Callable, Iterable

_PATIENCE = 60  # seconds for one attack


def attack(
  prepare: Callable[[], Callable[[int], bool]], seeds: Iterable[int]
) -> tuple[list[tuple[int, int]], int]:
  """Makes the attacks of some seeds, in as many children as it takes.

  Args:
    prepare: called in each child; returns a function that makes the attack of
      a seed and returns whether it was refused.
    seeds: the attacks to make.

  Returns:
    The (seed, exit code) of each attack that killed its child, and the number
    of refusals. The child of an attack without an end is killed.
  """
  context = multiprocessing.get_context('fork')
  waiting, killers, refused = [*seeds], [], 0
  while waiting:
    here, there = context.Pipe(duplex=False)
    child = context.Process(
      target=_attack, args=(prepare, waiting, there), daemon=True
    )
    child.start()
    there.close()
    done = 0
    try:
      while done < len(waiting):
        if not here.poll(_PATIENCE):
          print(f'seed {waiting[done]} hangs')
          child.kill()
        refused += here.recv()
        done += 1
    except EOFError:
      child.join()
      killers.append((waiting[done], child.exitcode))
      done += 1
    assert len(killers) < 20, killers
    waiting = waiting[done:]
  return killers, refused


def _attack(prepare, seeds, connection):
  attacked = prepare()
  for seed in seeds:
    connection.send(attacked(seed))
