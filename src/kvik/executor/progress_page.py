"""A page that a worker and its engine share: how much native work was done, counted up by the worker's kernels."""

from __future__ import annotations

import ctypes
import mmap
import sys
import tempfile
from typing import IO


class ProgressPage:
    """The engine's end; makes the page."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the page
        self._file.truncate(mmap.PAGESIZE)
        self._page = mmap.mmap(self._file.fileno(), mmap.PAGESIZE)

    def fileno(self) -> int:
        """For a worker to inherit."""
        return self._file.fileno()

    @property
    def count(self) -> int:
        return int.from_bytes(self._page[:8], sys.byteorder)

    def close(self) -> None:
        self._page.close()
        self._file.close()


def address_of(page: mmap.mmap) -> int:
    """Of the u64 at its beginning; valid as long as the page."""
    return ctypes.addressof(ctypes.c_char.from_buffer(page))
