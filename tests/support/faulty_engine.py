"""The engine process with a fault in it: see `support.faults`."""

from __future__ import annotations

import sys

from kvik.engine.process import main
from support.faults import ENGINE_POINTS, install

if __name__ == "__main__":
    install(ENGINE_POINTS)
    sys.exit(main())
