"""Bytes of files to a device, as fast as disk, memory and bus allow: several threads read into a ring of pinned
buffers, from which the device copies by itself. Knows no tensor names, no formats, no rows.

Ranges that lie close together in a file travel together. The host holds the ring, and never more; the device holds one
buffer as large as one of the ring's, from which what arrived goes to its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol

import torch

from kvik.weights.file_source import PAGE_BYTES, Source
from kvik.weights.lane import CopyEvent, Lane, StagingBuffer

BUFFER_BYTES: Final = 8 << 20
"""Of one buffer: 0.15 ms on the bus, more than queueing its copy takes; a ring of them stays in a CPU's last cache."""
_MOST_READERS: Final = 8
"""Threads. One copies some 6-10 GB/s out of the system's cache; a bus takes up to 55."""
_GAP_BYTES: Final = 64 << 10
"""What may lie between two ranges that are read at once: less than a read of its own would cost."""

Consume = Callable[[torch.Tensor], None]
"""Gets what arrived, uint8 [num_bytes] on the device, good only for work queued in the call."""


class Closable(Source, Protocol):
    def close(self) -> None: ...


@dataclass
class _Load:
    """What travels in one buffer: bytes [first, end) of a source, `first` a multiple of a page."""

    source: Source
    first: int
    end: int
    parts: list[tuple[int, int, Consume]] = field(default_factory=list)
    """(offset from `first`, bytes, who gets them)."""


@dataclass
class _Slot:
    buffer: StagingBuffer
    copied: CopyEvent | None = None
    """Behind the last copy out of the buffer."""


class WeightStream:
    """`put` what shall travel, in the order of the files; `finish` waits for it. Used by one thread."""

    def __init__(
        self, lane: Lane, *, num_readers: int | None = None, num_buffers: int | None = None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:  # fmt: skip
        """`num_buffers`: twice the readers by default, so that half of them are read into while half are copied."""
        if buffer_bytes % PAGE_BYTES or buffer_bytes < 3 * PAGE_BYTES:
            raise ValueError(f"buffer_bytes is {buffer_bytes}; it must be 3 pages of {PAGE_BYTES} or more, whole ones")
        self._num_readers = num_readers or min(_MOST_READERS, os.cpu_count() or 1)
        self._lane = lane
        self._buffer_bytes = buffer_bytes
        self._landing = torch.empty(buffer_bytes, dtype=torch.uint8, device=lane.place)
        self._most_slots = num_buffers or 2 * self._num_readers
        self._slots: list[_Slot] = []
        self._reading: list[tuple[_Load, _Slot, Future[None]]] = []
        self._waiting: _Load | None = None
        self._num_loads = 0
        self._readers = ThreadPoolExecutor(self._num_readers, thread_name_prefix="weights")

    def __enter__(self) -> WeightStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._lane.close()

    @property
    def most_bytes(self) -> int:
        """Of one `put`, wherever in its file it lies."""
        return self._buffer_bytes - 2 * PAGE_BYTES

    def put(self, source: Source, first: int, num_bytes: int, consume: Consume) -> None:
        """Have bytes [first, first + num_bytes) brought to the device and given to `consume` there.

        Raises ModelFileError for what was put before, where a file is short or broken.
        """
        load = self._waiting
        if load is None or not self._joins(load, source, first, first + num_bytes):
            self._send_waiting()
            load = self._waiting = _Load(source, first // PAGE_BYTES * PAGE_BYTES, first)
        load.parts.append((first - load.first, num_bytes, consume))
        load.end = max(load.end, first + num_bytes)

    def finish(self) -> None:
        """Have all copies queued that were put; raises as `put` does. Their sources may be closed then."""
        self._send_waiting()
        while self._reading:
            self._copy_oldest()

    def _joins(self, load: _Load, source: Source, first: int, end: int) -> bool:
        fits = -(-end // PAGE_BYTES) * PAGE_BYTES - load.first <= self._buffer_bytes
        return load.source is source and 0 <= first - load.end <= _GAP_BYTES and fits

    def _send_waiting(self) -> None:
        """Give the load that is complete to a reader. Not more than the readers can take are being read at a time, so
        that there are buffers on their way to the device meanwhile."""
        load, self._waiting = self._waiting, None
        if load is None:
            return
        while self._reading and (self._is_full or self._reading[0][2].done()):
            self._copy_oldest()
        slot = self._next_slot()
        future = self._readers.submit(load.source.read_into, slot.buffer.view, load.first, load.end)
        self._reading.append((load, slot, future))

    @property
    def _is_full(self) -> bool:
        return len(self._reading) >= min(self._num_readers, self._most_slots)

    def _next_slot(self) -> _Slot:
        """The buffer that was used longest ago, once its copy is over. Only as many are made as are needed."""
        self._num_loads += 1
        if len(self._slots) < self._most_slots:
            buffer = StagingBuffer.of(self._buffer_bytes)
            self._lane.pin(buffer)
            self._slots.append(_Slot(buffer))
            return self._slots[-1]
        slot = self._slots[(self._num_loads - 1) % self._most_slots]
        if slot.copied is not None:
            slot.copied.synchronize()
        return slot

    def _copy_oldest(self) -> None:
        load, slot, future = self._reading.pop(0)
        future.result()
        num_bytes = load.end - load.first
        if num_bytes:
            self._lane.copy(self._landing[:num_bytes], slot.buffer.tensor[:num_bytes])
        slot.copied = self._lane.record()
        for offset, count, consume in load.parts:
            arrived = self._landing[offset : offset + count]
            self._lane.run(lambda consume=consume, arrived=arrived: consume(arrived))  # type: ignore[misc]
