"""`python -m kvik.entrypoints.openai.api_server --model DIR ...`: `kvik serve` under the name that scripts know."""

from __future__ import annotations

import sys

from kvik.cli.main import guarded
from kvik.cli.serve import run_api_server

if __name__ == "__main__":
    sys.exit(guarded(run_api_server, sys.argv[1:]))
