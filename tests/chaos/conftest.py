"""Faults while real servers run. The long ones are marked `chaos` and belong to `make test-chaos`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.server import KvikServer


@pytest.fixture(scope="package")
def server() -> Iterator[KvikServer]:
    """One whose engine may die as often as the tests want."""
    with KvikServer("--max-engine-restarts", "1000", "--stall-timeout", "2", "--recovery-queue") as running:
        yield running
