"""Physical memory given back while its addresses stay: what a tape, or a kernel's pointer, refers to stays valid."""

from __future__ import annotations

import ctypes
import mmap
import os

import torch

_ADVICE = getattr(mmap, "MADV_DONTNEED", 4)


def give_back_pages(tensor: torch.Tensor) -> int:
    """Bytes of `tensor`'s memory that the system took back: its whole pages, which read as zeros until written again.

    The tensor must own its memory, on the CPU and in one piece, and that memory must be anonymous: contents are lost.
    What shares the first or last page with something else is kept. Raises ValueError for a tensor that is not such,
    OSError when the system refuses.
    """
    if not tensor.is_cpu or not tensor.is_contiguous():
        raise ValueError(f"only contiguous memory of the CPU has pages to give back, got a tensor on {tensor.device}")
    address, page = tensor.data_ptr(), mmap.PAGESIZE
    first = -(-address // page) * page
    end = (address + tensor.nbytes) // page * page
    if end <= first:
        return 0
    if _libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), _ADVICE):
        number = ctypes.get_errno()
        raise OSError(number, f"{end - first} bytes cannot be given back: {os.strerror(number)}")
    return end - first


_libc = ctypes.CDLL(None, use_errno=True)
