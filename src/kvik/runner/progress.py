"""The progress bar of loading: `Loading safetensors checkpoint shards: 50% Completed | 1/2`, on stderr."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO


class LoadingBar:
    """Rewrites one line on a terminal; writes only the last line where stderr is a file or a pipe."""

    def __init__(self, kind: str, stream: TextIO | None = None, *, enabled: bool = True) -> None:
        self._title = f"Loading {kind} checkpoint shards"
        self._stream = stream if stream is not None else sys.stderr
        self._enabled = enabled

    def advance(self, shard_name: str, num_done: int, num_shards: int) -> None:
        """`shard_name` is loaded; `num_done` of `num_shards` are."""
        if self._enabled:
            with contextlib.suppress(OSError):  # no room where stderr goes: that ends no start
                self._write(num_done, num_shards)

    def _write(self, num_done: int, num_shards: int) -> None:
        is_last = num_done == num_shards
        percent = 100 * num_done // max(1, num_shards)
        text = f"{self._title}: {percent:3d}% Completed | {num_done}/{num_shards}"
        if self._stream.isatty():
            self._stream.write(f"\r{text}" + ("\n" if is_last else ""))
        elif is_last:
            self._stream.write(f"{text}\n")
        self._stream.flush()
