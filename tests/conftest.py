"""Puts the helpers beside this file (oracle, worlds) on the import path.

The key that signs runs is made in a folder of the tests, not in the user's.
"""

import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))

_STATE = tempfile.TemporaryDirectory(prefix='trpo_tf_state')
os.environ['XDG_STATE_HOME'] = _STATE.name
