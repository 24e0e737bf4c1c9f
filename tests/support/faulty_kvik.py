"""The `kvik` command with a fault in it: see `support.faults`."""

from __future__ import annotations

import sys

from kvik.cli.main import main
from kvik.engine_client import engine_process
from support.faults import API_POINTS, install

if __name__ == "__main__":
    engine_process.ENGINE_MODULE = "support.faulty_engine"
    install(API_POINTS)
    sys.exit(main())
