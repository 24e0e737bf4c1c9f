"""Where kernels of these tests run: on the GPU, or, to try the tests themselves, in Triton's interpreter:

KVIK_REHEARSE_GPU_TESTS=1 pytest tests/gpu/test_kernels.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from support.triton_interpreter import standing_in_for_gpu

IS_REHEARSAL = os.environ.get("KVIK_REHEARSE_GPU_TESTS") == "1"
"""As tests/conftest.py has it."""


@pytest.fixture
def place() -> Iterator[torch.device]:
    if not IS_REHEARSAL:
        yield torch.device("cuda")
        return
    with standing_in_for_gpu():
        yield torch.device("cpu")


@pytest.fixture
def is_small() -> bool:
    """Whether sizes must suit an interpreter."""
    return IS_REHEARSAL
