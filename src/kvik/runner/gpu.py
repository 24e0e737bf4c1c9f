"""The hardware below gpu_device.py: memory, pinned buffers, events and graphs, as few calls as it takes.

A protocol, so that a fake can stand in where there is no GPU; `CudaGpu` is the real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from kvik.weights.cuda_lane import CudaLane
from kvik.weights.lane import Lane


@dataclass(frozen=True)
class GpuMemory:
    """Bytes, now."""

    total: int
    free: int
    """Of the device: what no process holds."""
    allocated: int
    """Tensors of this process."""
    peak_allocated: int
    """Most of those since `reset_peak`."""
    reserved: int
    """What torch holds for tensors, those that are gone included."""


class Event(Protocol):
    """A moment in the order of the device's work."""

    def synchronize(self) -> None:
        """Wait until the device has come to it."""

    def query(self) -> bool:
        """Whether it has."""


class Graph(Protocol):
    def replay(self) -> None:
        """Queue the captured work again, on the same addresses."""


class Capture(Protocol):
    """Work is queued as ever, but recorded instead of done between `begin` and `end`."""

    def begin(self) -> None: ...

    def end(self) -> Graph: ...


GraphMemory = Any
"""A token of the one who gave it."""


class Gpu(Protocol):
    place: torch.device
    description: str
    """For the log: "NVIDIA H200, sm_90"."""

    def enter_thread(self) -> None:
        """Make this the device of the calling thread; the one that opened it need not."""

    def memory(self) -> GpuMemory: ...

    def reset_peak(self) -> None: ...

    def release_unused(self) -> None:
        """Give memory that no tensor takes back to the device."""

    def pinned(self, num_elements: int) -> torch.Tensor:
        """int32 on the host, which the device copies from and to by itself."""

    def lane(self) -> Lane:
        """A way for weights, beside the work that computes."""

    def record_event(self) -> Event: ...

    def synchronize(self) -> None:
        """Wait until the device has done all that was queued."""

    def graph_memory(self) -> GraphMemory:
        """Memory that graphs share which never run at once. Good for captures until the last of its graphs is gone."""

    def capturing(self, memory: GraphMemory) -> AbstractContextManager[Capture]:
        """Inside, graphs may be captured, several one after another."""


class HostCopy:
    """64-bit integers on their way from the device to the host."""

    def __init__(self, gpu: Gpu, source: torch.Tensor) -> None:
        """The copy is queued behind what is queued now, and nothing later holds it up."""
        num_words = source.numel() * source.element_size() // 4
        self._values = gpu.pinned(num_words).view(source.dtype)
        self._values.copy_(source, non_blocking=True)
        self._copied = gpu.record_event()

    def numpy(self) -> npt.NDArray[np.int64]:
        """Waits for the copy alone."""
        self._copied.synchronize()
        return self._values.numpy()


class CudaGpu:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves to this process, or the one of this index among those."""

    def __init__(self, index: int = 0) -> None:
        """Starts CUDA. Raises RuntimeError, with the driver's reason, where that fails."""
        torch.cuda.init()  # type: ignore[no-untyped-call]
        self.place = torch.device("cuda", index)
        torch.cuda.set_device(self.place)
        facts = torch.cuda.get_device_properties(self.place)
        self.description = f"{facts.name}, sm_{facts.major}{facts.minor}"
        self._capture_stream: Any = None
        """One for all captures: graphs that share memory must be captured on the same stream, and cuBLAS holds a
        workspace for each stream that it saw."""

    def enter_thread(self) -> None:
        torch.cuda.set_device(self.place)

    def memory(self) -> GpuMemory:
        free, total = torch.cuda.mem_get_info(self.place)
        return GpuMemory(
            total, free, torch.cuda.memory_allocated(self.place), torch.cuda.max_memory_allocated(self.place),
            torch.cuda.memory_reserved(self.place),
        )  # fmt: skip

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.place)

    def release_unused(self) -> None:
        torch.cuda.empty_cache()

    def pinned(self, num_elements: int) -> torch.Tensor:
        return torch.zeros(num_elements, dtype=torch.int32, pin_memory=True)

    def lane(self) -> Lane:
        return CudaLane(self.place)

    def record_event(self) -> Event:
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.place)

    def graph_memory(self) -> GraphMemory:
        return torch.cuda.graph_pool_handle()

    @contextmanager
    def capturing(self, memory: GraphMemory) -> Iterator[Capture]:
        if self._capture_stream is None:
            self._capture_stream = torch.cuda.Stream(self.place)  # type: ignore[no-untyped-call]
        self.synchronize()
        capture = _CudaCapture(memory)
        with torch.cuda.stream(self._capture_stream):
            try:
                yield capture
            finally:
                capture.abandon()
        torch.cuda.current_stream(self.place).wait_stream(self._capture_stream)


class _CudaCapture:
    def __init__(self, pool: GraphMemory) -> None:
        self._pool = pool
        self._graph: torch.cuda.CUDAGraph | None = None

    def begin(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may load kernels or weights meanwhile: what they do is no concern of the capture.
        self._graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")

    def end(self) -> Graph:
        assert self._graph is not None, "begin() comes first"
        graph, self._graph = self._graph, None
        graph.capture_end()
        return graph

    def abandon(self) -> None:
        """End a capture that was cut short by an error, so that the device can be used again."""
        if self._graph is not None:
            self.end()
