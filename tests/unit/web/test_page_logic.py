"""The tests of the page's own logic, written where it is: web/test. They need what `make web` installs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WEB = Path(__file__).parent.parent.parent.parent / "web"
VITEST = WEB / "node_modules" / "vitest" / "vitest.mjs"


def test_what_needs_no_server() -> None:
    node = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))
    if node is None or not VITEST.exists():
        pytest.skip("the page's tools are not installed: make web")
    run = subprocess.run([node, VITEST, "run", "--no-color"], cwd=WEB, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
