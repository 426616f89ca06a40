"""Puts the helpers beside this file (oracle, worlds) on the import path."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
