"""Lets the tests of this room import what tests share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
