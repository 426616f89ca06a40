"""The vine on Atari games is a plain loop over cloned emulators."""

import numpy as np
import plain_atari
import pytest
import worlds
from plain_atari import Policy, choices

from trpo_tf import seeding
from trpo_tf.config import AtariConfig, SamplerConfig
from trpo_tf.sampling.atari.branching import AtariVine
from trpo_tf.sampling.atari.paths import AtariPathSampler
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.vine import VineSampler
from trpo_tf.seeding import Stream
from trpo_tf.tasks.atari import find_game

SEED, GAMMA = 3, 0.9
S, T, N, K, M, L = 3, 40, 6, 4, 2, 8


def make(
  name,
  proposal='policy',
  time_limit=0,
  branch_time_limit=False,
  workers=2,
  **config,
):
  game = find_game(f'atari/{name}', AtariConfig(**config), time_limit)
  policy = Policy(game)
  settings = SamplerConfig(
    sampler='vine',
    num_slots=S,
    batch_steps=S * T,
    rollout_set_size=N,
    branch_actions=K,
    branch_trials=M,
    branch_length=L,
    branch_proposal=proposal,
    branch_time_limit=branch_time_limit,
    sampler_threads=workers,
  )
  experiment = worlds.experiment(settings, SEED, GAMMA)
  paths = AtariPathSampler(game, policy, experiment)
  backend = AtariVine(paths, experiment)
  return VineSampler(backend, settings, SEED), policy


def draws(stream, *index):
  return seeding.generator(SEED, stream, *index)


class Walk:
  """A trunk by plain calls.

  Attributes:
    ale: the emulator, before the next action.
    stack: uint8 [H, W, 4], the observation then.
    timestep: of the episode then.
  """

  def __init__(self, game, slot):
    self.game, self.slot, self.episode = game, slot, 0
    self.begin()

  def begin(self):
    noops = draws(Stream.ENVIRONMENT, self.slot, self.episode).integers(1, 31)
    self.ale = plain_atari.emulator(self.game, noops=max(noops, 2))
    if noops == 1:
      self.ale.reset_game()
      self.ale.act(0)
    self.stack = np.zeros((*self.game.frame_shape, 4), np.uint8)
    self.stack[..., 3] = plain_atari.frame(
      self.game, self.ale.getScreenGrayscale()
    )
    self.timestep = 0

  def step(self, code):
    """Returns reward, ends of the game and whether a life was lost."""
    reward, over, life_lost, frame = plain_atari.step(self.game, self.ale, code)
    self.timestep += 1
    limit = self.timestep == self.game.time_limit
    if frame is not None:
      self.stack = np.append(self.stack[..., 1:], frame[..., None], -1)
    return reward, End.TERMINATED * over | End.TRUNCATED * limit, life_lost

  def move(self, code):
    """Goes on, into the next episode if one ends."""
    if self.step(code)[1]:
      self.episode += 1
      self.begin()

  def branch(self, policy, first, noise, time_limit):
    """Follows a policy; returns its return, length, end and last stack."""
    game, total = self.game, 0
    for i in range(L):
      logits = policy(self.stack[None])
      action, _ = choices(game.factors, logits, noise[i : i + 1])
      code = game.codes[tuple(first if i == 0 else action[0])]
      reward, ends, life_lost = self.step(code)
      if not time_limit:
        ends &= End.TERMINATED
      if life_lost and game.config.life_loss_ends_return:
        ends |= End.TERMINATED
      if game.config.clip_rewards:
        reward = np.sign(reward)
      total += GAMMA**i * reward
      if ends:
        break
    return total, i + 1, ends, self.stack

  def cloned_branch(self, *arguments):
    """The same in a clone of the emulator's state."""
    before = self.stack, self.timestep
    state = self.ale.cloneState(include_rng=True)
    result = self.branch(*arguments)
    self.ale.restoreState(state)
    self.stack, self.timestep = before
    return result


def check_branches(batch, n, results):
  """Compares the branches of a state with {(k, m): what `branch` gave}."""
  for (k, m), (total, length, ends, stack) in results.items():
    place = n, k, m
    np.testing.assert_allclose(batch.branch_returns[place], total, 1e-12)
    assert batch.branch_lengths[place] == length, place
    assert batch.branch_ends[place] == ends, place
    rows = batch.final_observations[place]
    if ends & End.TERMINATED:
      assert not rows.any()
    else:
      assert (batch.stacks(rows) == stack).all(), place


def branch_noise(iteration, num_factors):
  return draws(Stream.BRANCH_NOISE, iteration).random((N, M, L, num_factors))


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, proposal, options',
  [
    ('qbert', 'policy', dict(clip_rewards=True, life_loss_ends_return=True)),
    ('qbert', 'uniform', dict(time_limit=35, branch_time_limit=True)),
    ('qbert', 'all', dict(time_limit=35, atari_actions='minimal')),
    (
      'breakout',
      'policy',
      dict(life_loss_ends_return=True, atari_observation='nature'),
    ),
  ],
  ids=str,
)
def test_branches_are_those_of_cloned_emulators(name, proposal, options):
  sampler, policy = make(name, proposal, frame_skip=9, **options)
  game = sampler.backend.paths.game
  walks = [Walk(game, s) for s in range(S)]
  ends, rewarded = set(), 0
  for iteration in range(2):
    batch = sampler.sample(policy.theta, None, iteration)
    noise = branch_noise(iteration, len(game.factors))
    branches = list(np.ndindex(batch.first_actions.shape[1], M))
    states = {tuple(place): n for n, place in enumerate(batch.rollout_set)}
    for s, t in np.ndindex(S, T):
      if (s, t) in states:
        n = states[s, t]
        check_branches(
          batch,
          n,
          {
            (k, m): walks[s].cloned_branch(
              policy,
              batch.first_actions[n, k],
              noise[n, m],
              options.get('branch_time_limit'),
            )
            for k, m in branches
          },
        )
      walks[s].move(game.codes[tuple(batch.actions[s, t])])
    ends |= set(batch.branch_ends.ravel())
    rewarded += (batch.branch_returns != 0).sum()
    count = len(branches) // M
    assert batch.branch_lengths.shape == (N, count, M)
    assert batch.num_branch_steps == batch.branch_lengths.sum()
    assert batch.num_steps == S * T + batch.num_branch_steps
  assert rewarded > 1
  assert ends >= {
    0,
    End.TRUNCATED
    if options.get('branch_time_limit')
    else End.TERMINATED
    if 'life_loss_ends_return' in options
    else 0,
  }
  sampler.close()


@pytest.mark.slow
def test_branches_of_sticky_emulators_share_their_draws():
  """Without a clone: the trunk is played again for every branch."""
  sampler, policy = make('breakout', sticky_actions=0.5)
  game = sampler.backend.paths.game
  batch = sampler.sample(policy.theta, None, 0)
  noise = branch_noise(0, 3)

  def replayed(slot, step):
    walk = Walk(game, slot)
    start = walk.ale.cloneState()
    seed = seeding.derived_seed(SEED, Stream.ENVIRONMENT, slot, 0, 1)
    walk.ale = plain_atari.emulator(game, seed, noops=2)
    walk.ale.restoreState(start)
    for action in batch.actions[slot, :step]:
      walk.step(game.codes[tuple(action)])
    return walk

  for n, (slot, step) in enumerate(batch.rollout_set):
    check_branches(
      batch,
      n,
      {
        (k, m): replayed(slot, step).branch(
          policy, batch.first_actions[n, k], noise[n, m], False
        )
        for k, m in [(0, 0), (2, 1), (3, 0)]
      },
    )
  sampler.close()


@pytest.mark.parametrize('proposal', ['policy', 'uniform', 'all'])
def test_first_actions_are_the_proposals(proposal):
  sampler, policy = make('pong', proposal)
  batch = sampler.sample(policy.theta, None, 4)
  sampler.close()
  place = draws(Stream.ROLLOUT_SET, 4).choice(S * T, N, replace=False)
  assert (batch.rollout_set @ [T, 1] == np.sort(place)).all()
  rng = draws(Stream.BRANCH_ACTIONS, 4)
  log_q = np.full(batch.first_actions.shape[:2], -np.log(18))
  if proposal == 'policy':
    logits = np.repeat(batch.at_rollout_set(batch.outputs), K, axis=0)
    actions, log_q = choices((3, 3, 2), logits, rng.random((N * K, 3)))
    expected, log_q = actions.reshape(N, K, 3), log_q.reshape(N, K)
  elif proposal == 'uniform':
    expected = rng.integers((3, 3, 2), size=(N, K, 3), dtype=np.int32)
  else:
    expected = np.broadcast_to(list(np.ndindex(3, 3, 2)), (N, 18, 3))
  assert batch.first_actions.dtype == np.int32
  assert (batch.first_actions == expected).all()
  np.testing.assert_allclose(batch.log_q, log_q, 1e-6)
