"""Progress bars of a start on stderr: `Loading safetensors checkpoint shards: 50% Completed | 1/2`."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO


class ProgressBar:
    """Rewrites one line on a terminal; writes only the last line where stderr is a file or a pipe."""

    def __init__(self, title: str, stream: TextIO | None = None, *, enabled: bool = True) -> None:
        self._title = title
        self._stream = stream if stream is not None else sys.stderr
        self._enabled = enabled

    def advance(self, name: str, num_done: int, num_parts: int) -> None:
        """The part `name` is done; `num_done` of `num_parts` are."""
        if self._enabled:
            with contextlib.suppress(OSError):  # no room where stderr goes: that ends no start
                self._write(num_done, num_parts)

    def _write(self, num_done: int, num_parts: int) -> None:
        is_last = num_done == num_parts
        percent = 100 * num_done // max(1, num_parts)
        text = f"{self._title}: {percent:3d}% Completed | {num_done}/{num_parts}"
        if self._stream.isatty():
            self._stream.write(f"\r{text}" + ("\n" if is_last else ""))
        elif is_last:
            self._stream.write(f"{text}\n")
        self._stream.flush()


class LoadingBar(ProgressBar):
    """Of a checkpoint's shards."""

    def __init__(self, kind: str, stream: TextIO | None = None, *, enabled: bool = True) -> None:
        super().__init__(f"Loading {kind} checkpoint shards", stream, enabled=enabled)
