"""What this machine's kernels read and multiply in a second, measured in about two. Knows no model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from kvik.kernels import runtime
from kvik.kernels.linear import PackedWeight, linear, takes
from kvik.plan.speed import MachineSpeed

_BIG_BYTES = 128 << 20
"""More than caches hold."""
_K = 2048
_ROWS = 256
_PLAUSIBLE_BYTE = 0x3C
"""Fills a weight with numbers of ordinary size, whatever its format: none is so small that the machine slows down."""


def measure_speed(formats: Sequence[str], num_threads: int, seconds: float = 2.0) -> MachineSpeed:
    """Rates of products with matrices of these formats; those that cannot be computed here are left out."""
    runtime.set_num_threads(num_threads)
    possible = [fmt for fmt in formats if takes(fmt, _K)]
    share = seconds / max(1, 2 * len(possible))
    reads = {fmt: _read_rate(fmt, share) for fmt in possible}
    products = {fmt: _product_rate(fmt, share) for fmt in possible}
    threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
    return MachineSpeed(reads, products, f"what {runtime.isa()} kernels on {threads} were measured to do")


def _read_rate(fmt: str, seconds: float) -> float:
    """Bytes per second of a product with one row."""
    sample = PackedWeight.allocate(16, _K, fmt)
    weight = _filled(max(16, _BIG_BYTES // (sample.nbytes // 16)), fmt)
    x = torch.randn(1, _K, generator=torch.Generator().manual_seed(0))
    return weight.nbytes / _fastest(lambda: linear(x, weight), seconds)


def _product_rate(fmt: str, seconds: float) -> float:
    """Multiply-adds per second of a product with many rows."""
    weight = _filled(_K, fmt)
    x = torch.randn(_ROWS, _K, generator=torch.Generator().manual_seed(0))
    return _ROWS * _K * _K / _fastest(lambda: linear(x, weight), seconds)


def _filled(n: int, fmt: str) -> PackedWeight:
    weight = PackedWeight.allocate(n, _K, fmt)
    weight.data.view(torch.uint8).fill_(_PLAUSIBLE_BYTE)
    return weight


def _fastest(run: Callable[[], object], seconds: float) -> float:
    """Seconds of the quickest of the runs that fit the time, two at least."""
    best, end = float("inf"), time.perf_counter() + seconds
    for count in range(10_000):
        started = time.perf_counter()
        if count >= 2 and started + best > end:
            break
        run()
        best = min(best, time.perf_counter() - started)
    return best
