"""`python -m kvik` is `kvik`."""

from __future__ import annotations

import sys

from kvik.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
