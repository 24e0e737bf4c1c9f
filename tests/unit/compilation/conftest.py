"""A compiler that forgets between tests, and its cache where it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what directs inductor's cache."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    yield
    torch._dynamo.reset()
