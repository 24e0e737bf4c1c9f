"""What every test may rely on: the log is as the test before found it, and GPU tests have a GPU; without
one, Triton's kernels run in its interpreter."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from kvik.platforms.gpus import find_gpus

os.environ.setdefault("TRITON_INTERPRET", "0" if find_gpus().visible else "1")  # read when triton is first imported


def is_rehearsal() -> bool:
    """Whether the kernels' tests for a GPU are tried in the interpreter; see tests/gpu/conftest.py."""
    return os.environ.get("KVIK_REHEARSE_GPU_TESTS") == "1"


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Undo what a test that calls a door does to kvik's logger."""
    logger = logging.getLogger("kvik")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None or ("place" in getattr(item, "fixturenames", ()) and is_rehearsal()):
        return
    if not (found := find_gpus()).visible:
        pytest.skip(f"needs a GPU: {found.why_none}")
