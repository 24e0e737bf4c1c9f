"""Where activations lie: fresh tensors, or, inside `Arena.serving`, pieces of one block that live as long as it does.

A piece goes back to the arena when the last tensor over it is gone, so that a forward pass needs as much as is alive
at its widest moment. Knows no op and no model.
"""

from __future__ import annotations

import bisect
import ctypes
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from kvik.kernels.runtime import native

_ALIGNMENT = 64


class ArenaFullError(RuntimeError):
    """More is alive at once than the arena was made for."""


class Arena:
    """One block of memory, handed out piece by piece. Its pages take memory when they are first written."""

    def __init__(self, num_bytes: int) -> None:
        self._memory: torch.Tensor = native.allocate(num_bytes)
        self._free = [(0, num_bytes)]  # half-open ranges, ascending, none touching the next
        self.num_bytes_in_use = 0
        self.peak_bytes = 0

    @property
    def memory(self) -> torch.Tensor:
        """The whole block, uint8."""
        return self._memory

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Inside, `empty` takes from this arena."""
        token = _serving.set(self)
        try:
            yield
        finally:
            _serving.reset(token)

    def empty(self, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
        """[rows, columns] with undefined contents. Raises `ArenaFullError`."""
        num_bytes = rows * columns * dtype.itemsize
        if num_bytes == 0:
            return torch.frombuffer(bytearray(1), dtype=torch.uint8)[:0].view(dtype).view(rows, columns)
        begin, end = self._take(-(-num_bytes // _ALIGNMENT) * _ALIGNMENT)
        piece = (ctypes.c_char * num_bytes).from_address(self._memory.data_ptr() + begin)
        weakref.finalize(piece, self._give_back, begin, end).atexit = False  # the tensor's storage holds the piece
        return torch.frombuffer(piece, dtype=dtype).view(rows, columns)

    def _take(self, num_bytes: int) -> tuple[int, int]:
        """The first free range that is long enough."""
        for i, (begin, end) in enumerate(self._free):
            if end - begin >= num_bytes:
                self._free[i : i + 1] = [(begin + num_bytes, end)] if end - begin > num_bytes else []
                self.num_bytes_in_use += num_bytes
                self.peak_bytes = max(self.peak_bytes, begin + num_bytes)
                return begin, begin + num_bytes
        raise ArenaFullError(
            f"{num_bytes} bytes of activations do not fit beside the {self.num_bytes_in_use} that are alive in an "
            f"arena of {self._memory.nbytes}"
        )

    def _give_back(self, begin: int, end: int) -> None:
        self.num_bytes_in_use -= end - begin
        at = bisect.bisect(self._free, (begin, end))
        if at < len(self._free) and self._free[at][0] == end:
            end = self._free.pop(at)[1]
        if at and self._free[at - 1][1] == begin:
            at -= 1
            begin = self._free.pop(at)[0]
        self._free.insert(at, (begin, end))


_serving: ContextVar[Arena | None] = ContextVar("serving arena", default=None)


def empty(rows: int, columns: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[rows, columns] on the CPU with undefined contents: the output of a kernel."""
    arena = _serving.get()
    return torch.empty((rows, columns), dtype=dtype) if arena is None else arena.empty(rows, columns, dtype)


def empty_beside(x: torch.Tensor, columns: int) -> torch.Tensor:
    """[x's rows, columns] with undefined contents, of x's dtype and on its device."""
    return empty(x.shape[0], columns, x.dtype) if x.is_cpu else x.new_empty(x.shape[0], columns)
