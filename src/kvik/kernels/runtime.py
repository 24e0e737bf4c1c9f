"""Which kernels run, and on how many threads. Knows no op.

The environment variable KVIK_ISA names the instruction set to use instead of the best one: "avx512_vnni",
"avx512", "avx2", "generic", or "reference" for plain torch. Meant for tests and for narrowing down a fault.

Tensors on a GPU go to the Triton kernels. A test may have Triton's interpreter stand in for the GPU: then tensors on
the CPU take the GPU's way, `with standing_in_for_gpu()`, for which TRITON_INTERPRET=1 is set before triton is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# The codes of csrc/dtype.h.
DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.int8: 3}


def _load() -> Any:
    """The extension, or None where it was not built. A broken build raises ImportError, a wrong KVIK_ISA ValueError."""
    wanted = os.environ.get("KVIK_ISA", "")
    if wanted == "reference":
        return None
    try:
        import kvik._native as extension
    except ModuleNotFoundError as error:
        if error.name != "kvik._native":
            raise
        return None
    if wanted:
        extension.select_isa(wanted)
    return extension


native: Any = _load()
_cpu_is_gpu = False
"""Whether the interpreter stands in for a GPU."""


@contextmanager
def standing_in_for_gpu() -> Iterator[None]:
    """Inside, the CPU's tensors are computed by Triton kernels in the interpreter, laid out as on a GPU."""
    global _cpu_is_gpu
    before, _cpu_is_gpu = _cpu_is_gpu, True
    try:
        yield
    finally:
        _cpu_is_gpu = before


def isa() -> str:
    """Instruction set of the kernels in use; "reference" where there is no native build."""
    return "reference" if native is None else str(native.isa())


def set_num_threads(num_threads: int) -> None:
    """Sets how many threads compute. Raises ValueError below 1. Not to be called while kernels run."""
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}; it must be at least 1")
    if native is None:
        torch.set_num_threads(num_threads)
        return
    native.set_num_threads(num_threads)
    torch.set_num_threads(1)  # two pools that wait by spinning would take the cores from each other


def count_progress_at(address: int) -> None:
    """From now on each native op counts up the u64 at `address`, which must stay valid; 0 ends that."""
    if native is not None:
        native.count_progress_at(address)


def num_threads() -> int:
    """Threads that compute, the caller included."""
    return torch.get_num_threads() if native is None else int(native.num_threads())


def runs_native(x: torch.Tensor) -> bool:
    """Whether a native kernel takes this tensor: it lies in CPU memory as fp32 or bf16."""
    return is_native(x) and (x.dtype is torch.bfloat16 or x.dtype is torch.float32)


def is_native(x: torch.Tensor) -> bool:
    """Whether native kernels compute where this tensor lies."""
    return native is not None and x.is_cpu and not _cpu_is_gpu


def packs(device: torch.device | str) -> bool:
    """Whether weights on this device are laid out for native kernels."""
    return native is not None and torch.device(device).type == "cpu" and not _cpu_is_gpu


def is_gpu(device: torch.device | str) -> bool:
    """Whether weights on this device are laid out for Triton kernels."""
    kind = torch.device(device).type
    return kind == "cuda" or (_cpu_is_gpu and kind == "cpu")


def runs_triton(x: torch.Tensor) -> bool:
    """Whether a Triton kernel takes this tensor: it lies on a GPU, or the interpreter stands in for one."""
    return x.is_cuda or (_cpu_is_gpu and x.is_cpu)
