"""For which batch sizes graphs are captured, and which of them before the engine is ready. Pure numbers."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from kvik.config import EngineConfig

_FULL_BEFORE_READY = 4
"""Full graphs before ready: 1, 4, 16, ... and the largest; those between are captured in idle moments."""


@dataclass(frozen=True)
class GraphSizes:
    """Ascending numbers of tokens; empty: no graphs of that mode."""

    full: tuple[int, ...] = ()
    piecewise: tuple[int, ...] = ()

    @property
    def largest(self) -> int:
        return max((*self.full, *self.piecewise), default=0)

    def padded(self, mode: str, num_tokens: int) -> int | None:
        """The least size that takes so many tokens."""
        sizes = self.full if mode == "FULL" else self.piecewise
        at = bisect.bisect_left(sizes, num_tokens)
        return sizes[at] if at < len(sizes) else None

    @property
    def first(self) -> GraphSizes:
        """Those that are captured before the engine is ready: with them no batch is padded to more than four times
        its size, and no mixed one computed call by call."""
        return GraphSizes(_spaced(self.full), self.piecewise[-1:])

    def __len__(self) -> int:
        return len(self.full) + len(self.piecewise)


def default_sizes(max_num_seqs: int, max_num_batched_tokens: int) -> tuple[int, ...]:
    """As the field has them: 1, 2, 4, then by 8 up to 256, then by 16, at most twice the requests, or 512."""
    most = min(max(2 * max_num_seqs, 1), 512, max_num_batched_tokens)
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)]
    return tuple(size for size in sizes if size <= most) or (most,)


def _spaced(sizes: tuple[int, ...]) -> tuple[int, ...]:
    chosen: list[int] = []
    for size in sizes:
        if not chosen or size >= _FULL_BEFORE_READY * chosen[-1]:
            chosen.append(size)
    return tuple(dict.fromkeys((*chosen, *sizes[-1:])))


def sizes_of(config: EngineConfig) -> GraphSizes:
    """What the configuration asks for."""
    scheduler, mode = config.scheduler, config.compilation.cudagraph_mode
    sizes = config.compilation.cudagraph_capture_sizes or default_sizes(
        scheduler.max_num_seqs, scheduler.max_num_batched_tokens
    )
    full = tuple(s for s in sizes if s <= scheduler.max_num_seqs) or sizes[:1]
    return GraphSizes(full if "FULL" in mode else (), sizes if "PIECEWISE" in mode else ())
