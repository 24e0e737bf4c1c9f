"""The way from host memory to a device, as weights/stream.py takes it. CUDA's is cuda_lane.py; tests bring a slow one.

A lane is one queue: what is queued happens in that order, later, while the host goes on.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch


class CopyEvent(Protocol):
    def synchronize(self) -> None:
        """Wait until all is done that was queued before it."""


@dataclass(frozen=True)
class StagingBuffer:
    """Host memory at a multiple of a page, seen twice."""

    tensor: torch.Tensor
    """uint8 [num_bytes]."""
    view: memoryview

    @classmethod
    def of(cls, num_bytes: int) -> StagingBuffer:
        memory = mmap.mmap(-1, num_bytes)
        return cls(torch.frombuffer(memory, dtype=torch.uint8), memoryview(memory))


class Lane(Protocol):
    place: torch.device

    def pin(self, buffer: StagingBuffer) -> None:
        """Make it memory that the device reads by itself, until `close`."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Queue a copy from pinned memory to the device's. `source` must stay as it is until an event behind it."""

    def run(self, work: Callable[[], None]) -> None:
        """Queue what `work` does on the device."""

    def record(self) -> CopyEvent: ...

    def close(self) -> None:
        """Wait until all is done, and give back what was held for it."""
