"""The terminal outlives its reader."""

import os

import pytest

from trpo_tf.experiment.terminal import Terminal


@pytest.mark.parametrize('live', [True, False])
def test_reader_that_goes_away(live):
  reading, writing = os.pipe()
  with os.fdopen(writing, 'w') as stream:
    terminal = Terminal(stream, force_terminal=live)
    terminal.say('[read]')
    assert os.read(reading, 100) == b'[read]\n'
    assert not terminal.closed
    os.close(reading)
    terminal.say('lost')
    assert terminal.closed
    terminal.say('lost too')


def test_terminal_that_goes_away():
  main, writing = os.openpty()
  with os.fdopen(writing, 'w') as stream:
    terminal = Terminal(stream)
    assert terminal.is_terminal
    os.close(main)
    terminal.say('lost')  # EIO, not EPIPE
    assert terminal.closed
