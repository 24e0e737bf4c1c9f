"""Each kernel test that asks for `isa` runs once per instruction set that this machine has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvik.kernels import runtime

ISAS = runtime.native.available_isas() if runtime.native else []


@pytest.fixture(params=ISAS or [pytest.param("none", marks=pytest.mark.skip(reason="kvik._native is not built"))])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Lowers the kernels to one instruction set, two threads, and puts both back."""
    before, threads = runtime.isa(), runtime.num_threads()
    runtime.native.select_isa(request.param)
    runtime.set_num_threads(2)
    yield request.param
    runtime.native.select_isa(before)
    runtime.set_num_threads(threads)
