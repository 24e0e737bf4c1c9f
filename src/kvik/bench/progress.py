"""A bar of finished requests on a terminal, drawn when one finishes: no thread, no timer."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

WIDTH = 30
MIN_INTERVAL_S = 0.1


class Progress:
    """`with Progress(total, is_shown) as bar: bar.advance()`. Silent unless stderr is a terminal."""

    def __init__(self, total: int, is_shown: bool = True, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._total = total
        self._is_shown = is_shown and total > 0 and self._out.isatty()
        self._num_done = self._num_failed = 0
        self._started_s = time.monotonic()
        self._drawn_s = 0.0

    def __enter__(self) -> Self:
        self._draw()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._draw()
        if self._is_shown:
            print(file=self._out)

    def advance(self, has_failed: bool = False) -> None:
        self._num_done += 1
        self._num_failed += has_failed
        if time.monotonic() - self._drawn_s >= MIN_INTERVAL_S:
            self._draw()

    def line(self) -> str:
        """The bar as it stands."""
        passed_s = time.monotonic() - self._started_s
        filled = WIDTH * self._num_done // max(1, self._total)
        left_s = passed_s / self._num_done * (self._total - self._num_done) if self._num_done else None
        left = "?" if left_s is None else f"{left_s:.0f} s"
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        return f"{'█' * filled:░<{WIDTH}} {self._num_done}/{self._total} [{passed_s:.0f} s, {left} left{failed}]"

    def _draw(self) -> None:
        if self._is_shown:
            self._drawn_s = time.monotonic()
            print(f"\r{self.line()}\x1b[K", end="", file=self._out, flush=True)
