"""A CUDA stream of its own for weights, beside the one that computes. See lane.Lane."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from kvik.telemetry.log import get_logger
from kvik.weights.lane import CopyEvent, StagingBuffer

logger = get_logger(__name__)


class CudaLane:
    def __init__(self, place: torch.device) -> None:
        self.place = place
        self._stream: Any = torch.cuda.Stream(place)  # type: ignore[no-untyped-call]
        # What was allocated before (the weights themselves) may still be being filled with zeros there.
        self._stream.wait_stream(torch.cuda.current_stream(place))
        self._cudart: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        self._pinned: list[StagingBuffer] = []

    def pin(self, buffer: StagingBuffer) -> None:
        """Where the system refuses, the copies take a detour through the driver's own buffers, and the log says so."""
        error = int(self._cudart.cudaHostRegister(buffer.tensor.data_ptr(), buffer.tensor.nbytes, 0))
        if error:
            _take_last_error(self.place)
            logger.warning(
                "The system pins no memory (CUDA error %d; see `ulimit -l`): weights reach the GPU more slowly.", error
            )
        else:
            self._pinned.append(buffer)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def run(self, work: Callable[[], None]) -> None:
        with torch.cuda.stream(self._stream):
            work()

    def record(self) -> CopyEvent:
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event  # type: ignore[no-any-return]

    def close(self) -> None:
        self._stream.synchronize()
        for buffer in self._pinned:
            self._cudart.cudaHostUnregister(buffer.tensor.data_ptr())
        self._pinned.clear()
        torch.cuda.empty_cache()  # what conversions took on this stream is of no use to the other


def _take_last_error(place: torch.device) -> None:
    """CUDA keeps the error of a call and tells it once more at the next launch: let that be this one."""
    with contextlib.suppress(RuntimeError):
        torch.zeros(1, device=place)
