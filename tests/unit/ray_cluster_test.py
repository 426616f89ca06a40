"""Addresses that name no cluster; integration/ray_test.py has a real one."""

import pathlib
import platform
import re
import socket
import sys
import time

import pytest

from trpo_tf.distributed import ray_cluster
from trpo_tf.errors import UserError
from trpo_tf.reproduction import ray_pool

pytest.importorskip('ray')
_ROOT = pathlib.Path(__file__).parents[2]


def _refuse(address, message):
  with pytest.raises(UserError, match=re.escape(message)) as caught:
    with ray_cluster.connect(address):
      pytest.fail('connected')
  assert '\n' not in str(caught.value)
  assert f'--ray_address={address}' in str(caught.value)


@pytest.mark.parametrize(
  'address',
  [
    'x',
    'ray://head:10001',
    'head:',
    ':6379',
    'head:port',
    'local:',
    'a b:1',
    '',
  ],
)
def test_an_address_that_is_none(address):
  with pytest.raises(UserError, match='write auto, local or HOST:PORT'):
    with ray_cluster.connect(address):
      pytest.fail('connected')


def test_nothing_listens_there():
  with socket.socket() as taken:
    taken.bind(('127.0.0.1', 0))  # and does not listen
    port = taken.getsockname()[1]
    _refuse(f'127.0.0.1:{port}', 'no Ray answers at')
  _refuse('no-such-host.invalid:6379', 'no Ray answers at')


@pytest.mark.slow
def test_something_listens_that_does_not_answer():
  with socket.create_server(('127.0.0.1', 0)) as server:
    began = time.monotonic()
    _refuse(f'127.0.0.1:{server.getsockname()[1]}', 'no Ray answers at')
    assert time.monotonic() - began < 10


def test_auto_follows_the_variable_of_ray(monkeypatch):
  monkeypatch.setenv('RAY_ADDRESS', 'ray://head:10001')
  with pytest.raises(UserError, match='--ray_address=ray://head:10001: write'):
    with ray_cluster.connect('auto'):
      pytest.fail('connected')


def test_without_ray(monkeypatch):
  monkeypatch.setitem(sys.modules, 'ray', None)
  _refuse('auto', "needs Ray: pip install 'trpo_tf[ray]'")


def test_a_node_without_the_directory_says_so(tmp_path):
  """What a task does first, here without Ray."""
  missing = tmp_path / 'missing'
  for folder, log in ((missing, tmp_path), (tmp_path, missing)):
    seconds, failure = ray_pool._run(
      ('-c', ''), str(folder), tmp_path / 'run', log / 'run.log', {}
    )
    assert not seconds
    assert failure == (
      f'node {platform.node()} does not see {missing}: all nodes have to mount '
      'the same file system there'
    )
  assert not list(tmp_path.iterdir())


def test_the_example_for_kubernetes():
  yaml = pytest.importorskip('yaml')  # which Ray depends on
  text = (_ROOT / 'docs/examples/kuberay.yaml').read_text()
  claim, cluster = yaml.safe_load_all(text)
  assert claim['spec']['accessModes'] == ['ReadWriteMany']
  spec = cluster['spec']
  versions = (_ROOT / 'constraints.txt').read_text().splitlines()
  assert f'ray=={spec["rayVersion"]}' in versions
  assert spec['enableInTreeAutoscaling']
  assert spec['authOptions'] == {'mode': 'token'}
  (workers,) = spec['workerGroupSpecs']
  assert workers['minReplicas'] <= workers['replicas'] <= workers['maxReplicas']
  # the same directory on all nodes, which the command in the comment uses
  for group in (spec['headGroupSpec'], workers):
    pod = group['template']['spec']
    (container,), (volume,) = pod['containers'], pod['volumes']
    assert container['volumeMounts'] == [
      {'name': volume['name'], 'mountPath': '/shared'}
    ]
    assert volume['persistentVolumeClaim'] == {
      'claimName': claim['metadata']['name']
    }
  assert '--out=/shared/' in text
  # and the service of the head is that of the comment
  assert f'service/{cluster["metadata"]["name"]}-head-svc' in text
