"""A run in shards has the same bytes on every engine, whatever dies."""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import types

import pytest

from trpo_tf import config
from trpo_tf.errors import UserError

ray = pytest.importorskip('ray')
pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SMALL = dict(
  batch_steps=320,
  num_slots=8,
  num_shards=8,
  hidden_sizes=(8,),
  value_hidden_sizes=(8,),
  value_epochs=1,
  value_minibatch=160,
  total_iterations=10,
  total_env_steps=10**9,
)
KINDS = {
  'hopper': SMALL | dict(task='Hopper-v5', fisher_fraction=0.5),
  'hopper_vine': SMALL
  | dict(
    task='Hopper-v5',
    sampler='vine',
    rollout_set_size=16,
    branch_actions=2,
    branch_length=5,
    vine_objective='every_step',
  ),
  'cartpole': SMALL | dict(task='CartPole-v1'),
  'max_kl': SMALL
  | dict(
    task='Hopper-v5',
    method='max_kl',
    fisher_fraction=1.0,
    total_iterations=3,
  ),
  'kl_penalty': SMALL
  | dict(
    task='Hopper-v5',
    method='kl_penalty',
    adapt_kl_coefficient=True,
    fit_evaluations=5,
    total_iterations=3,
  ),
  'pong': SMALL
  | dict(
    task='atari/pong',
    batch_steps=64,
    conv_filters=(4,),
    value_minibatch=32,
    total_iterations=3,
  ),
}


def start(kind, cluster='', kill='', **changed):
  """Trains in a process of its own; see the end of this file."""
  values = KINDS[kind] | changed
  command = [sys.executable, __file__, json.dumps(values), cluster, kill]
  return subprocess.Popen(
    command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=_environment()
  )


def _environment():
  path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
  settings = {
    'PYTHONPATH': path,
    'TF_CPP_MIN_LOG_LEVEL': '3',
    # otherwise its workers wait for whatever else this machine does
    'RAY_worker_niceness': '0',
  }
  return os.environ | settings


@functools.cache
def alone(kind, iterations=0):
  """What a run in one process gives."""
  last = iterations or KINDS[kind]['total_iterations']
  return trained(kind, total_iterations=last)


def by_hand(*cases):
  """Cases that only -m crash runs, as they take a minute each."""
  return [pytest.param(*case, marks=pytest.mark.crash) for case in cases]


def trained(*args, **kwargs):
  """The digest of every iteration, and the deaths of workers."""
  process = start(*args, **kwargs)
  lines = process.communicate(timeout=600)[0].splitlines()
  assert process.returncode == 0
  return json.loads(lines[-1])


@pytest.mark.parametrize(
  'kind, workers', by_hand(*((kind, n) for kind in KINDS for n in (1, 2, 3)))
)
def test_any_number_of_workers_gives_the_bytes_of_this_process(kind, workers):
  assert len(set(alone(kind)['digests'])) == KINDS[kind]['total_iterations']
  assert trained(kind, f'local {workers}') == alone(kind)


@pytest.mark.parametrize(
  'kind, iterations',
  [
    ('hopper_vine', 3),
    *by_hand(*((kind, KINDS[kind]['total_iterations']) for kind in KINDS)),
  ],
)
def test_workers_that_die_change_no_byte(kind, iterations):
  """In each iteration one dies: in sampling, the step or the value fit."""
  killed = trained(kind, 'local 2', 'kill', total_iterations=iterations)
  assert killed['digests'] == alone(kind, iterations)['digests']
  assert len(set(killed['digests'])) == iterations
  assert len(killed['deaths']) == iterations
  assert all('died' in death for death in killed['deaths'])


@pytest.mark.parametrize(
  'kind, workers',
  by_hand(('hopper_vine', 3), ('cartpole', 3), ('hopper', 7)),
)
def test_workers_that_call_workers_change_no_byte(kind, workers):
  """In a tree of fan-out 2; those die that call others, leaves, and both."""
  iterations = 6
  killed = trained(
    kind, f'local {workers}', 'tree', total_iterations=iterations
  )
  assert killed['digests'] == alone(kind, iterations)['digests']
  died = [death.partition(' (')[0] for death in killed['deaths']]
  inner, leaf = (f'worker {i} died' for i in _victims(workers))
  assert sorted(died) == sorted([inner] * 3 + [leaf] * 4)


def test_a_users_error_and_a_death_below_a_worker_arrive():
  """As they are, by the connections and the actors of real runs."""
  from trpo_tf.distributed import ray_cluster, ray_worker, worker_tree

  class Actor(ray_worker.Actor):  # without shards
    def build(self, index, key):
      def call(operation, arguments):
        raise UserError(f'--task={operation}: no such task')

      worker = types.SimpleNamespace(num_shards=2, call=call)
      return self._serve(index, worker, key)

  key, nothing = os.urandom(32), worker_tree.Reply({}, {}, {})
  with ray_cluster.connect('local', 2):
    inner, leaf = (ray.remote(Actor).remote() for _ in range(2))
    where = [
      actor.build.remote(i, key) for i, actor in enumerate([inner, leaf])
    ]
    members = dict(enumerate(zip([inner, leaf], ray.get(where), strict=True)))
    ray.get(inner.link.remote({1: members[1]}))
    links = ray_worker.joined({}, {0: members[0]}, key)
    worker_tree.start(links, 1, 'x', ())
    with pytest.raises(UserError) as caught:
      worker_tree.collected(2, nothing, links)
    assert str(caught.value) == '--task=x: no such task'
    assert type(caught.value) is UserError
    ray.kill(leaf)
    dead = {}
    while not dead:  # it may answer once more
      worker_tree.start(links, 0, 'x', ())  # a number that inner has answered
      dead = worker_tree.collected(2, nothing, links).dead
    assert list(dead) == [1] and 'ray.kill' in dead[1]
    ray.kill(inner)

    lacks = config.settings(config.from_settings(SMALL | dict(task='a.py:X')))
    build = ray.remote(ray_worker.Actor).remote().build
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
      ray.get(build.remote(4, lacks, [0], [], key))
    assert type(caught.value.cause) is UserError
    assert re.match(r'worker 4 on [\d.]+: .*a\.py', str(caught.value.cause))


def _victims(workers):
  """A worker that calls others in a tree of fan-out 2, and the last leaf."""
  from trpo_tf.distributed import worker_tree

  members = worker_tree.layout(workers, 2)
  return members[worker_tree.LEARNER][-1], workers - 1


@pytest.mark.crash
def test_two_nodes_give_the_same_bytes():
  assert trained('hopper', 'nodes 2') == alone('hopper')


@pytest.mark.crash
def test_a_learner_that_dies_goes_on_with_other_workers(tmp_path):
  """By the program, with its checkpoints."""
  flags = [
    f'--{name}={",".join(map(str, v)) if isinstance(v, tuple) else v}'
    for name, v in KINDS['hopper'].items()
  ]
  command = [sys.executable, '-m', 'trpo_tf.bin.train', *flags]
  command += ['--noprogress', '--notensorboard', '--checkpoint_seconds=0']

  def run(directory, *more, **kwargs):
    return subprocess.Popen(
      [*command, f'--run_dir={tmp_path / directory}', *more],
      cwd=ROOT,
      env=_environment(),
      **kwargs,
    )

  assert run('whole').wait(600) == 0
  first = run('killed', '--ray_workers=2')
  rows = tmp_path / 'killed' / 'progress.csv'
  while not rows.exists() or rows.read_bytes().count(b'\n') < 5:
    assert first.poll() is None
    with contextlib.suppress(subprocess.TimeoutExpired):
      first.wait(0.05)
  first.send_signal(signal.SIGKILL)
  first.wait(60)
  assert run('killed', '--ray_workers=3').wait(600) == 0
  assert _rows(rows) == _rows(tmp_path / 'whole' / 'progress.csv')


def _rows(path):
  """The rows without the columns that measure time."""
  table = [line.split(',') for line in path.read_text().splitlines()]
  kept = [i for i, name in enumerate(table[0]) if 'second' not in name]
  return [[row[i] for i in kept] for row in table]


def _traffic(kind, **changed):
  """By operation, the bytes that two workers get and send."""
  run = trained(kind, 'local 2', 'measure', total_iterations=2, **changed)
  return run['bytes']


def test_vectors_of_parameters_moments_and_counts_travel():
  found = _traffic('hopper')
  expected = _sizes(slots=found['state'][1])
  assert found.keys() == expected.keys()
  for operation, sizes in expected.items():
    assert found[operation] == pytest.approx(sizes, abs=6000), operation


@pytest.mark.parametrize(
  'kind, changed',
  by_hand(
    ('hopper', dict(batch_steps=640, value_minibatch=320)),
    ('hopper_vine', dict(batch_steps=640, rollout_set_size=32)),
  ),
)
def test_what_travels_does_not_grow_with_the_batch(kind, changed):
  small, large = _traffic(kind), _traffic(kind, **changed)
  assert small.keys() == large.keys()
  for operation, sizes in small.items():
    # numbers are pickled in as few bytes as they need
    assert large[operation] == pytest.approx(sizes, abs=400), operation


def _sizes(slots):
  """By operation, the bytes of the vectors that two workers get and send."""
  O, A = 11, 3
  P = (O + 1) * 8 + (8 + 1) * A + A
  V = (O + 1) * 8 + (8 + 1)
  return {
    'state': [0, slots],
    'sample': [2 * (4 * P + 2 * 8 * O), 2 * (2 * 8 * O) + slots],
    'estimate': [2 * 4 * V, 0],
    'prepare': [0, 2 * 8 * P],
    'product': [2 * 8 * P, 2 * 8 * P],
    'evaluate': [2 * 4 * P, 0],
    'begin_fit': [0, 0],
    'value_gradient': [2 * 4 * V, 2 * 8 * V],
    'squared_error': [2 * 4 * V, 0],
  }


def _main(values, cluster, kill):
  from trpo_tf import config
  from trpo_tf.distributed import ray_engine, training

  values = {
    k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
  }
  made = config.from_settings(values)
  address, _, workers = cluster.partition(' ')
  stack = contextlib.ExitStack()
  if address == 'nodes':
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    stack.callback(nodes.shutdown)
    for _ in range(int(workers)):
      nodes.add_node(num_cpus=1)
    address = nodes.address
  traffic = {}
  if kill == 'measure':
    _measure(ray_engine.RayEngine, traffic)
  if kill == 'kill':
    _kill(ray_engine.RayEngine, [[0]], made.method.method)
  if kill == 'tree':
    inner, leaf = _victims(int(workers))
    victims = [[inner], [leaf], [inner, leaf]]
    _kill(ray_engine.RayEngine, victims, made.method.method)
    ray_engine.RayEngine = functools.partial(ray_engine.RayEngine, fan_out=2)
  with stack, training.training(made, address, int(workers or 0)) as run:
    digests, deaths = [], []
    for iteration in run.iterations():
      tree = iteration.state.tree()
      del tree['elapsed_seconds']
      digests.append(hashlib.sha256(repr(_bytes(tree)).encode()).hexdigest())
      deaths += iteration.summary.deaths
  print(json.dumps(dict(digests=digests, deaths=deaths, bytes=traffic)))


def _bytes(tree):
  if isinstance(tree, dict):
    return {k: _bytes(v) for k, v in sorted(tree.items())}
  return tree.tobytes() if hasattr(tree, 'tobytes') else tree


def _measure(engine, traffic):
  """Adds up the bytes of messages in the learner's last iteration."""
  from trpo_tf.distributed import links

  sizes, whole = [0, 0], engine.map
  send, received = links.Link.send, links.Link._received

  def sent(self, message):
    sizes[0] += len(message)
    send(self, message)

  def came(self, waiting):
    found = received(self, waiting)
    sizes[1] += len(found)
    return found

  def mapped(self, operation, *arguments):
    sizes[:] = 0, 0
    result = whole(self, operation, *arguments)
    traffic[operation] = list(sizes)
    return result

  links.Link.send, links.Link._received, engine.map = sent, came, mapped


def _kill(engine, victims, method):
  """Kills some workers in each iteration, in one of three phases.

  Args:
    engine: class of the engine.
    victims: groups of workers; the next one after three iterations.
    method: of the run.
  """
  of_step = {'max_kl': 'weighted_product', 'kl_penalty': 'penalized'}
  phases = ['sample', of_step.get(method, 'product'), 'value_gradient']
  plain, plain_begin = engine._start_call, engine.begin
  iteration, killed = [0], set()

  def begin(self, states):
    iteration[0] += 1
    plain_begin(self, states)

  def start_call(self, operation, arguments):
    plain(self, operation, arguments)
    now = iteration[0]
    if operation == phases[now % 3] and now not in killed:
      killed.add(now)
      for victim in victims[now // 3 % len(victims)]:
        ray.kill(self._actors[victim])
        # the last death would be missed if the run ended before it
        with contextlib.suppress(ray.exceptions.RayActorError):
          while True:
            ray.get(self._actors[victim].__ray_ready__.remote())

  engine._start_call, engine.begin = start_call, begin


if __name__ == '__main__':
  _main(json.loads(sys.argv[1]), *sys.argv[2:4])


@pytest.mark.parametrize(
  ('cores', 'shards', 'workers'), [(0, 8, 1), (2, 8, 2), (64, 8, 8)]
)
def test_workers_unless_they_are_given(cores, shards, workers):
  """A cluster that grows on demand may have no core yet."""
  from trpo_tf.distributed import ray_engine

  assert ray_engine.default_workers(cores, shards) == workers
