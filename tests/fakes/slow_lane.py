"""A device whose copies come late: nothing of what was queued is done before somebody waits for it.

Pinned buffers and landing memory are read when the work is done, as a device reads them, so a buffer that was used
again too early shows in the values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch

from kvik.weights.lane import CopyEvent, StagingBuffer


class SlowLane:
    place = torch.device("cpu")

    def __init__(self) -> None:
        self.pinned: list[StagingBuffer] = []
        self.num_copies = 0
        self.is_closed = False
        self._queue: deque[Callable[[], None]] = deque()
        self._num_queued = self._num_done = 0

    def pin(self, buffer: StagingBuffer) -> None:
        self.pinned.append(buffer)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        starts = [(b.tensor.data_ptr(), b.tensor.data_ptr() + b.tensor.nbytes) for b in self.pinned]
        assert any(first <= source.data_ptr() < end for first, end in starts), "copied from memory that is not pinned"
        assert target.shape == source.shape
        self.num_copies += 1
        self.run(lambda: _copy(target, source))

    def run(self, work: Callable[[], None]) -> None:
        assert not self.is_closed
        self._queue.append(work)
        self._num_queued += 1

    def record(self) -> CopyEvent:
        return _Event(self, self._num_queued)

    def close(self) -> None:
        self.do_until(self._num_queued)
        self.is_closed = True

    def do_until(self, num_queued: int) -> None:
        """Only so much as was waited for, and not a piece more."""
        while self._num_done < num_queued:
            self._num_done += 1
            self._queue.popleft()()


def _copy(target: torch.Tensor, source: torch.Tensor) -> None:
    target.copy_(source)


class _Event:
    def __init__(self, lane: SlowLane, position: int) -> None:
        self._lane = lane
        self._position = position

    def synchronize(self) -> None:
        self._lane.do_until(self._position)
