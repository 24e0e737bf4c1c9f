"""A file mapped into memory as one uint8 tensor: pages come when they are touched and can be dropped again."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import Final

import torch

from kvik.errors import ModelFileError

# Without it Linux refuses private mappings larger than memory and swap, though no page of them is ever written.
_ASKED_AT_ONCE: Final = 1 << 19
"""Bytes. Of a longer range the system may read the beginning only."""
_AHEAD_BYTES: Final = 1 << 28
"""How far the reading of files runs ahead of their use: a second or so of a fast disk."""
_NO_RESERVE: Final = getattr(mmap, "MAP_NORESERVE", 0x4000) if sys.platform == "linux" else 0


class MappedFile:
    """Private and writable only because torch wants its buffers so; nothing here writes, and the file cannot change."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self.size = file.seek(0, 2)
                if not self.size:
                    raise ModelFileError(f"{path} is empty")
                self._map = mmap.mmap(
                    file.fileno(),
                    self.size,
                    flags=mmap.MAP_PRIVATE | _NO_RESERVE,
                    prot=mmap.PROT_READ | mmap.PROT_WRITE,
                )
        except OSError as error:
            raise ModelFileError(f"cannot map {path}: {error.strerror}") from error
        self._asked_end = 0
        self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)

    def read_ahead(self, end: int) -> None:
        """Have all up to `end` and a good piece beyond read into the system's cache, without waiting for it.

        So the disk goes on reading while what came before is being packed. What was asked for is not asked for again.
        """
        wanted_end = min(end + _AHEAD_BYTES, self.size)
        while self._asked_end < wanted_end:
            num_bytes = min(_ASKED_AT_ONCE, self.size - self._asked_end)
            self._map.madvise(mmap.MADV_WILLNEED, self._asked_end, num_bytes)
            self._asked_end += num_bytes

    def view(self, start: int, num_bytes: int) -> torch.Tensor:
        """uint8 [num_bytes], no copy. The caller has checked that it lies in the file."""
        return self._bytes[start : start + num_bytes]

    def read(self, start: int, num_bytes: int) -> bytes:
        """A copy of bytes [start, start + num_bytes), fewer at the end of the file."""
        return self._map[start : start + num_bytes]

    def drop(self, start: int, num_bytes: int) -> None:
        """Give back the pages that lie wholly within; touched again, they are read from the file again."""
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (start + num_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)

    def drop_all(self) -> None:
        self._map.madvise(mmap.MADV_DONTNEED)
