"""Each kernel test that asks for `isa` runs once per instruction set that this machine has.

One that asks for `backend` also runs in Triton's interpreter, which stands in for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvik.kernels import runtime
from support.triton_interpreter import standing_in_for_gpu

ISAS = runtime.native.available_isas() if runtime.native else []
NO_NATIVE = [pytest.param("none", marks=pytest.mark.skip(reason="kvik._native is not built"))]


@pytest.fixture(params=ISAS or NO_NATIVE)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Lowers the kernels to one instruction set, two threads, and puts both back."""
    with lowered_to(request.param):
        yield request.param


@pytest.fixture(params=["triton", *(ISAS or NO_NATIVE)])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """As `isa`, and "triton"."""
    if request.param != "triton":
        with lowered_to(request.param):
            yield request.param
        return
    with standing_in_for_gpu():
        yield request.param


@contextmanager
def lowered_to(isa: str) -> Iterator[None]:
    before, threads = runtime.isa(), runtime.num_threads()
    runtime.native.select_isa(isa)
    runtime.set_num_threads(2)
    yield
    runtime.native.select_isa(before)
    runtime.set_num_threads(threads)
