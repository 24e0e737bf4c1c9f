"""Which native kernels run, and on how many threads. Knows no op.

The environment variable KVIK_ISA names the instruction set to use instead of the best one: "avx512_vnni",
"avx512", "avx2", "generic", or "reference" for plain torch. Meant for tests and for narrowing down a fault.
"""

from __future__ import annotations

import os
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
    return native is not None and x.is_cpu and (x.dtype is torch.bfloat16 or x.dtype is torch.float32)
