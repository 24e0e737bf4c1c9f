"""What the machine can do at most: bytes read and multiply-adds per second. `python -m bench.ceilings` prints JSON.

A process of its own, so that its memory and torch are gone again before anything is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

SWEEP_BYTES = 2**29
"""Read by each thread: far more than any cache holds."""
SIDE = 2048
NUM_TRIES = 7


@dataclass(frozen=True)
class Ceilings:
    """Best of several tries, all cores."""

    read_gb_per_s: float
    """A dot product of an fp32 array with itself, in numpy's BLAS, one array of 512 MiB per core."""
    fp32_gflop_per_s: float
    """torch's product of two matrices of 2048 x 2048."""
    bf16_gflop_per_s: float


def measured() -> Ceilings:
    """In a child process."""
    out = subprocess.run([sys.executable, "-m", "bench.ceilings"], capture_output=True, text=True, check=True).stdout
    return Ceilings(**json.loads(out))


def _measure() -> Ceilings:
    import os

    num_threads = len(os.sched_getaffinity(0))
    return Ceilings(_read_gb_per_s(num_threads), _gflop_per_s("float32"), _gflop_per_s("bfloat16"))


def _read_gb_per_s(num_threads: int) -> float:
    os_threads = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    import os

    os.environ.update(os_threads)  # before numpy: the threads are ours
    import numpy as np

    arrays = [np.ones(SWEEP_BYTES // 4, np.float32) for _ in range(num_threads)]
    with ThreadPoolExecutor(num_threads) as pool:
        seconds = _best_s(lambda: list(pool.map(lambda a: a.dot(a), arrays)))
    return num_threads * SWEEP_BYTES / seconds / 1e9


def _gflop_per_s(dtype: str) -> float:
    import torch

    a, b = (torch.rand(SIDE, SIDE).to(getattr(torch, dtype)) for _ in range(2))
    return 2 * SIDE**3 / _best_s(lambda: a @ b) / 1e9


def _best_s(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(NUM_TRIES):
        started_s = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started_s)
    return best


if __name__ == "__main__":
    print(json.dumps(asdict(_measure())))
