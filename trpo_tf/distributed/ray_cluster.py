"""Starts Ray here or joins a Ray cluster, and checks that its nodes fit.

Ray is an extra of this package, so it is imported when `connect` is called.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import pathlib
import platform
import re
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import trpo_tf
from trpo_tf import errors

__all__ = ['Cluster', 'connect', 'on_each_node', 'require_shared']

_ANSWER_SECONDS = 5.0
_NODE_SECONDS = 60.0  # for a node to start a process that imports trpo_tf
_SERVING = b'\x08\x01'  # grpc.health.v1.HealthCheckResponse of a live server
_HOST_PORT = re.compile(r'(?P<host>[\w.-]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d+)')


@dataclasses.dataclass(frozen=True)
class Cluster:
  """The Ray cluster that this process is connected to.

  Attributes:
    address: HOST:PORT of its head, with which other processes can join it.
    cores: number of cores that its nodes give to tasks now.
    nodes: names of the nodes that are there now.
  """

  address: str
  cores: int
  nodes: tuple[str, ...]


@contextlib.contextmanager
def connect(address: str, workers: int | None = None) -> Iterator[Cluster]:
  """Connects this process to Ray for the length of a with statement.

  Nothing that was started here is left behind, even after an error. The
  handler of SIGTERM stays the caller's.

  Args:
    address: 'local' starts Ray on this machine, 'auto' joins the cluster that
      this machine belongs to (or that RAY_ADDRESS names), and HOST:PORT joins
      the cluster with that head.
    workers: number of cores that 'local' gives to tasks, which may be more than
      there are; None: every core. A cluster that is joined has its own number.

  Yields:
    The cluster.

  Raises:
    UserError: Ray is not installed, the address is wrong or does not answer
      (within ten seconds), or the versions of Ray, Python or trpo_tf on a node
      are not those here.
  """
  os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
  try:
    import ray
  except ImportError:
    raise errors.UserError(
      f"--ray_address={address} needs Ray: pip install 'trpo_tf[ray]', or "
      "pip install -e '.[ray]' in a checkout"
    ) from None
  on_sigterm = signal.getsignal(signal.SIGTERM)
  try:
    options: dict[str, Any] = {'address': _resolved(address)}
    if address == 'local':
      cores = workers or len(os.sched_getaffinity(0))
      options |= {'num_cpus': cores, 'include_dashboard': False}
    try:
      context = ray.init(
        **options, log_to_driver=False, logging_level=logging.ERROR
      )
    except Exception as error:  # Ray raises errors of many types
      hint = ''
      if isinstance(error, ConnectionError):  # it answered before
        hint = '; see whether RAY_AUTH_TOKEN or its file is that of the cluster'
      raise errors.UserError(
        f'--ray_address={address}: {errors.quoted(error)}{hint}'
      ) from error
    if signal.getsignal(signal.SIGTERM) is not on_sigterm:
      signal.signal(signal.SIGTERM, on_sigterm)
    _require_same_versions()
    yield Cluster(
      context.address_info['gcs_address'],
      int(ray.cluster_resources().get('CPU', 0)),
      tuple(name for name, _ in _nodes()),
    )
  finally:
    ray.shutdown()


def on_each_node(function: Callable[..., Any], *arguments: Any) -> dict:
  """Calls a function once on each node, on all nodes at the same time.

  Args:
    function: the function, which must lie in a module that the nodes have.
    arguments: its arguments.

  Returns:
    By name of the node what the function returned, or the exception that it
    raised. Nodes that left meanwhile are missing.

  Raises:
    UserError: a node does not answer within a minute.
  """
  import ray
  from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

  task = ray.remote(num_cpus=0, max_retries=0)(function)
  calls = {}
  for name, node in _nodes():
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    calls[name] = task.options(scheduling_strategy=where).remote(*arguments)
  _, late = ray.wait(
    list(calls.values()), num_returns=len(calls), timeout=_NODE_SECONDS
  )
  found = {}
  for name, call in calls.items():
    if call in late:
      raise errors.UserError(
        f'node {name} of the Ray cluster has not answered for '
        f'{_NODE_SECONDS:.0f} s: look at it with "ray status"'
      )
    try:
      found[name] = ray.get(call)
    except ray.exceptions.RayTaskError as error:
      found[name] = error
    except ray.exceptions.RayError:
      continue  # the node has left
  return found


def require_shared(directory: pathlib.Path) -> None:
  """Checks that every node sees a directory of this machine.

  Args:
    directory: the directory, which exists.

  Raises:
    UserError: a node does not see it.
  """
  with tempfile.NamedTemporaryFile(prefix='.seen_', dir=directory) as file:
    seen = on_each_node(os.path.exists, os.path.abspath(file.name))
  blind = [name for name, result in seen.items() if result is not True]
  if blind:
    raise errors.UserError(
      f'{directory} is not seen by {_listed(blind)}: put it on a file system '
      'that all nodes mount at the same path'
    )


def _nodes() -> list[tuple[str, str]]:
  """The names and ids of the nodes that are alive; the names are unique."""
  import ray

  alive = [node for node in ray.nodes() if node['Alive']]
  hosts = [node['NodeManagerHostname'] for node in alive]
  names = [
    f'{host} ({node["NodeID"][:6]})' if hosts.count(host) > 1 else host
    for host, node in zip(hosts, alive, strict=True)
  ]
  return [(n, node['NodeID']) for n, node in zip(names, alive, strict=True)]


def _resolved(address: str) -> str:
  """The address for ray.init; HOST:PORT is checked to answer."""
  if address == 'local':
    return address
  there = _own_cluster() if address == 'auto' else address
  match = _HOST_PORT.fullmatch(there)
  if match is None:
    raise errors.UserError(
      f'--ray_address={there}: write auto, local or HOST:PORT, the address '
      'that "ray start --head" prints'
    )
  if not _answers(match['host'].strip('[]'), int(match['port'])):
    raise errors.UserError(
      f'--ray_address={address}: no Ray answers at {there}: start it there '
      '(ray start --head --port=6379), or use --ray_address=local'
    )
  return there


def _own_cluster() -> str:
  """The head of the cluster that this machine belongs to, as Ray finds it."""
  if named := os.environ.get('RAY_ADDRESS'):
    return named
  from ray._private import services

  try:
    return services.canonicalize_bootstrap_address_or_die('auto')
  except ConnectionError:
    raise errors.UserError(
      '--ray_address=auto: this machine belongs to no Ray cluster: start or '
      'join one (ray start), or use --ray_address=local'
    ) from None


def _answers(host: str, port: int) -> bool:
  """Whether a gRPC server that is alive answers; ray.init waits for minutes."""
  if os.environ.get('RAY_USE_TLS') == '1':  # which needs Ray's certificates
    try:
      socket.create_connection((host, port), _ANSWER_SECONDS).close()
    except OSError:
      return False
    return True
  import grpc

  where = f'[{host}]:{port}' if ':' in host else f'{host}:{port}'
  options = [('grpc.enable_http_proxy', 0)]
  with grpc.insecure_channel(where, options) as channel:
    check = channel.unary_unary('/grpc.health.v1.Health/Check')
    try:
      return check(b'', timeout=_ANSWER_SECONDS) == _SERVING
    except grpc.RpcError as error:
      return error.code() == grpc.StatusCode.UNAUTHENTICATED


def _versions() -> dict[str, str]:
  """What has to be the same everywhere, for the same bytes of a run."""
  import ray

  root = pathlib.Path(trpo_tf.__file__).parent
  sources = hashlib.sha256()
  for path in sorted(root.rglob('*.py')):
    sources.update(f'{path.relative_to(root)}\0'.encode() + path.read_bytes())
  return {
    'Ray': ray.__version__,
    'Python': platform.python_version(),
    'trpo_tf': f'{trpo_tf.__version__} ({sources.hexdigest()[:8]})',
  }


def _require_same_versions() -> None:
  here, found = _versions(), on_each_node(_versions)
  if lacking := [n for n, v in found.items() if not isinstance(v, dict)]:
    raise errors.UserError(
      f'trpo_tf cannot be imported on {_listed(lacking)}: install '
      f'{here["trpo_tf"]} there'
    )
  differing = [
    f'{name} {theirs[name]} on {node}'
    for node, theirs in found.items()
    for name in here
    if theirs[name] != here[name]
  ]
  if differing:
    ours = ', '.join(f'{name} {version}' for name, version in here.items())
    raise errors.UserError(
      f'versions differ: {_listed(differing)}; here {ours}: install the same '
      'everywhere'
    )


def _listed(items: list[str]) -> str:
  shown = ', '.join(items[:5])
  return f'{shown} and {len(items) - 5} more' if len(items) > 5 else shown
