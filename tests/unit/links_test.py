"""Calls between processes arrive, as do errors and deaths."""

import os
import pickle
import socket
import subprocess
import sys
import threading
from multiprocessing import AuthenticationError, connection

import numpy as np
import pytest

from trpo_tf.distributed import links, reduction, worker_tree
from trpo_tf.distributed.worker_tree import Reply
from trpo_tf.errors import UserError

HOST = '127.0.0.1'
KEY = os.urandom(32)


def link(server, key=KEY):
  return links.Link(server.address, key, lambda: '')


def serve(handle):
  return links.Server(handle, HOST, KEY)


def ask(connection, *arguments):
  connection.send(pickle.dumps(arguments))
  return connection.answer()


def test_arrays_come_back_as_they_are():
  one = link(serve(lambda x: {'twice': 2 * x}))
  for size in (0, 1, 10_000, 3_000_000):  # more than the system buffers
    x = np.random.default_rng(size).normal(size=size)
    np.testing.assert_array_equal(ask(one, x)['twice'], 2 * x)


def test_an_error_keeps_its_type_and_place_and_the_server_goes_on():
  def fails(x):
    if x:
      raise UserError('--task=x: no such task')
    return 5

  one = link(serve(fails))
  with pytest.raises(UserError) as caught:
    ask(one, 1)
  assert str(caught.value) == '--task=x: no such task'
  assert 'in fails' in caught.value.__notes__[0]
  assert ask(one, 0) == 5


def test_who_does_not_know_the_key_gets_no_answer():
  called = []
  server = serve(lambda: called.append(1))
  with pytest.raises(AuthenticationError):
    link(server, b'another')
  with socket.create_connection(server.address) as stranger:
    stranger.sendall(b'\0\0\0\4abcd')
    assert ask(link(server)) is None  # meanwhile
  assert called == [1]


_STRANGERS = """
import os, pickle, resource, subprocess, sys, time
from trpo_tf.distributed import links
strangers = (
  'import socket\\n'
  'port = int(input())\\n'
  'found = [socket.socket() for _ in range(90)]\\n'
  'for one in found: one.connect_ex(("127.0.0.1", port))\\n'
  'print(flush=True)\\n'
  'input()\\n'
)
pipe = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
with subprocess.Popen([sys.executable, '-c', strangers], **pipe) as process:
  most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
  resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
  server = links.Server(lambda: 5, '127.0.0.1', b'k' * 32)
  print(server.address[1], file=process.stdin, flush=True)
  process.stdout.readline()
  try:  # until the server has no descriptor left
    while True:
      os.close(os.dup(0))
      time.sleep(0.01)
  except OSError:
    print(file=process.stdin, flush=True)
link = links.Link(server.address, b'k' * 32, lambda: '')
link.send(pickle.dumps(()))
assert link.answer() == 5
"""


def test_a_server_outlives_too_many_strangers():
  program = [sys.executable, '-c', _STRANGERS]
  subprocess.run(program, check=True, timeout=120)


def test_a_stranger_that_says_nothing_is_cut_off(monkeypatch):
  monkeypatch.setattr(links, '_STANDSTILL', 1)
  server = serve(lambda: 5)
  one = link(server)
  with socket.create_connection(server.address) as stranger:
    stranger.settimeout(60)
    while stranger.recv(1000):  # its challenge, and then the end
      pass
  assert ask(one) == 5  # who knows the key may wait


@pytest.mark.parametrize('accepts', [False, True])
def test_a_peer_that_stands_still_is_dead(monkeypatch, accepts):
  """Before it is known, or while it is sent something long."""
  monkeypatch.setattr(links, '_STANDSTILL', 1)
  with connection.Listener((HOST, 0), authkey=KEY if accepts else None) as peer:
    found = []
    thread = threading.Thread(target=lambda: found.append(peer.accept()))
    thread.start()
    one = links.Link(peer.address, KEY, lambda: 'it stands still')
    thread.join()
    one.send(bytes(50_000_000))
    with pytest.raises(links.Dead, match='it stands still'):
      one.answer()
    found[0].close()


def test_a_server_that_was_not_there_is_dead():
  with socket.create_server((HOST, 0)) as closed:
    address = closed.getsockname()
  one = links.Link(address, KEY, lambda: 'it was killed')
  one.send(b'')
  with pytest.raises(links.Dead, match='^it was killed$'):
    one.answer()


def test_a_connection_that_breaks_is_a_death():
  with connection.Listener((HOST, 0), authkey=KEY) as listener:
    thread = threading.Thread(target=lambda: listener.accept().close())
    thread.start()
    one = links.Link(listener.address, KEY, lambda: '')
    thread.join()
  one.send(b'')
  with pytest.raises(links.Dead, match='^its connection broke$'):
    one.answer()


def test_a_caller_that_replaces_another_waits_for_its_call():
  begun, free, calls = threading.Event(), threading.Event(), []

  def handle(number):
    calls.append(number)
    begun.set()
    free.wait(10)
    return len(calls)

  server = serve(handle)
  first = link(server)
  first.send(pickle.dumps((1,)))
  begun.wait(10)
  first.close()
  second = link(server)
  second.send(pickle.dumps((2,)))
  free.set()
  assert second.answer() == 2 and calls == [1, 2]


def test_an_error_below_leaves_no_answer_for_the_next_call():
  """All members are heard, even if the first one has an error."""

  def handle(index):
    def called(number, operation, arguments):
      if operation == 'fail' and index == 0:
        raise ValueError('here')
      return Reply({(index, index + 1): number}, {index: 0.5}, {})

    return called

  members = {i: link(serve(handle(i))) for i in range(2)}
  nothing = Reply({}, {}, {})
  worker_tree.start(members, 1, 'fail', ())
  with pytest.raises(ValueError, match='here'):
    worker_tree.collected(2, nothing, members)
  worker_tree.start(members, 10, 'add', ())
  found = worker_tree.collected(2, nothing, members)
  assert reduction.finished(2, found.parts) == 20
  assert found.seconds == {0: 0.5, 1: 0.5} and not found.dead
