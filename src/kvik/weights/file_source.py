"""Bytes of a weights file read straight into memory that somebody else made: what the system's cache holds from there,
the rest past it. Knows neither tensors nor devices.

Reading past the cache (O_DIRECT) spares a copy and leaves the cache to others; it wants file offsets and addresses at
multiples of PAGE_BYTES. File systems that have no such thing are read as ever.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final, Protocol

import torch

from kvik.errors import ModelFileError

PAGE_BYTES: Final = 4096
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
_DIRECT: Final = getattr(os, "O_DIRECT", 0)


class Source(Protocol):
    """Where bytes come from, by their offsets."""

    def read_into(self, view: memoryview, first: int, end: int) -> None:
        """Bytes [first, end) to the beginning of `view`, which lies at a multiple of PAGE_BYTES, as `first` does, and
        has room up to the next such multiple behind `end`. Called by several threads at once."""
        ...


class FileSource:
    """One file, open until `close`."""

    def __init__(self, path: Path) -> None:
        """Raises ModelFileError for a file that cannot be opened."""
        self.path = path
        self._lock = threading.Lock()
        self._direct: int | None = None
        self._has_direct = bool(_DIRECT)
        self.num_direct_bytes = 0
        """Read past the cache so far."""
        try:
            self._plain = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._failed(error) from error

    def read_into(self, view: memoryview, first: int, end: int) -> None:
        """See Source. Raises ModelFileError, with the file's name, where it ends before `end` or cannot be read."""
        length = end - first
        try:
            done = self._read_cached(view, first, length)
            if done < length and (direct := self._direct_file()) is not None:
                done = self._read_direct(direct, view, first, done // PAGE_BYTES * PAGE_BYTES, length)
            while done < length:
                count = os.preadv(self._plain, [view[done:length]], first + done)
                if not count:
                    raise ModelFileError(
                        f"{self.path} ends at byte {first + done}, but its header places weights up to byte {end}: it "
                        "was cut short or is being written; copy it again"
                    )
                done += count
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        os.close(self._plain)
        if self._direct is not None:
            os.close(self._direct)

    def _read_cached(self, view: memoryview, first: int, length: int) -> int:
        """As many bytes as come without waiting for a disk. The first page tells whether more are worth asking for."""
        done, wanted = 0, min(PAGE_BYTES, length)
        while _NOWAIT and done < length:
            try:
                count = os.preadv(self._plain, [view[done:wanted]], first + done, _NOWAIT)
            except OSError:  # EAGAIN, or a file system that does not know the flag
                break
            if not count:
                break
            done, wanted = done + count, length
        return done

    def _read_direct(self, file: int, view: memoryview, first: int, done: int, length: int) -> int:
        """Bytes of `length` that are there now; fewer where the file ends, or its system refuses after all."""
        room = -(-length // PAGE_BYTES) * PAGE_BYTES
        while done < length:
            try:
                count = os.preadv(file, [view[done:room]], first + done)
            except OSError:
                self._has_direct = False  # the plain way will say what is wrong, if anything is
                break
            if not count:
                break
            with self._lock:
                self.num_direct_bytes += count
            done += count
            if count % PAGE_BYTES:
                break  # the file's end
        return min(done, length)

    def _direct_file(self) -> int | None:
        with self._lock:
            if self._has_direct and self._direct is None:
                try:
                    self._direct = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | _DIRECT)
                except OSError:
                    self._has_direct = False
            return self._direct if self._has_direct else None

    def _failed(self, error: OSError) -> ModelFileError:
        return ModelFileError(f"cannot read {self.path}: {error.strerror}")


class MemorySource:
    """A tensor that was made on the host, such as codes and scales of several tensors joined to one."""

    def __init__(self, data: torch.Tensor) -> None:
        """data: uint8 [num_bytes], contiguous."""
        self._data = data

    def read_into(self, view: memoryview, first: int, end: int) -> None:
        if end > first:
            torch.frombuffer(view, dtype=torch.uint8, count=end - first).copy_(self._data[first:end])

    def close(self) -> None:
        pass
