"""A GPU without one: tensors on the CPU, memory by numbers, and graphs that keep the ops of a capture and repeat them.

As with real graphs, a replay works on the addresses and with the numbers of the capture; what a real capture does not
allow (reading a tensor's values on the host) raises here, too. Triton's launches are kept like torch's ops.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from fakes.slow_lane import SlowLane
from kvik.runner.gpu import Capture, Event, GpuMemory, Graph

_READING_ON_THE_HOST = ("tolist", "item", "__bool__", "__int__", "__float__", "cpu", "numpy")


class FakeEvent:
    """Work of a fake is done when it is queued."""

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True


class FakeGpu:
    place = torch.device("cpu")
    description = "a fake GPU"

    def __init__(
        self, total: int = 1 << 30, *, outside_torch: int = 0, graph_bytes: int = 0, step_bytes: int = 0
    ) -> None:
        """`outside_torch`, `graph_bytes`, `step_bytes`: what a context, each graph and each step's results take."""
        self.total = total
        self.outside_torch = outside_torch
        self.graph_bytes = graph_bytes
        self.step_bytes = step_bytes
        self.graphs: WeakSet[FakeGraph] = WeakSet()
        """Those that somebody still holds."""
        self.num_replays = 0

    def enter_thread(self) -> None:
        pass

    def memory(self) -> GpuMemory:
        graphs = len(self.graphs) * self.graph_bytes
        return GpuMemory(self.total, self.total - self.outside_torch - graphs, 0, self.step_bytes, 0)

    def reset_peak(self) -> None:
        pass

    def release_unused(self) -> None:
        pass

    def pinned(self, num_elements: int) -> torch.Tensor:
        return torch.zeros(num_elements, dtype=torch.int32)

    def lane(self) -> SlowLane:
        return SlowLane()

    def record_event(self) -> Event:
        return FakeEvent()

    def synchronize(self) -> None:
        pass

    def graph_memory(self) -> FakeGraphMemory:
        return FakeGraphMemory()

    @contextmanager
    def capturing(self, memory: FakeGraphMemory) -> Iterator[Capture]:
        memory.check()
        capture = FakeCapture(self, memory)
        with pytest.MonkeyPatch.context() as patch:
            capture.watch(patch)
            try:
                yield capture
                assert capture.recorder is None, "a capture was begun and not ended"
            finally:
                if capture.recorder is not None:
                    capture.end()


class FakeGraphMemory:
    """As torch has it: given back with the last of its graphs, and of no use from then on."""

    def __init__(self) -> None:
        self.graphs: WeakSet[FakeGraph] = WeakSet()
        self._was_used = False

    def check(self) -> None:
        assert self.graphs or not self._was_used, "the last graph in this memory is gone, and the memory with it"

    def add(self, graph: FakeGraph) -> None:
        self._was_used = True
        self.graphs.add(graph)


class FakeGraph:
    def __init__(self, gpu: FakeGpu, ops: list[Callable[[], None]]) -> None:
        self._gpu = gpu
        self.ops = ops

    def replay(self) -> None:
        self._gpu.num_replays += 1
        for op in self.ops:
            op()


class FakeCapture:
    def __init__(self, gpu: FakeGpu, memory: FakeGraphMemory) -> None:
        self._gpu = gpu
        self._memory = memory
        self.recorder: _Recorder | None = None

    def begin(self) -> None:
        assert self.recorder is None, "one capture at a time"
        self.recorder = _Recorder()
        self.recorder.__enter__()

    def end(self) -> Graph:
        assert self.recorder is not None, "begin() comes first"
        recorder, self.recorder = self.recorder, None
        recorder.__exit__(None, None, None)
        graph = FakeGraph(self._gpu, recorder.ops)
        self._gpu.graphs.add(graph)
        self._memory.add(graph)
        return graph

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Refuse what waits for the device, and see Triton's launches."""
        for name in _READING_ON_THE_HOST:
            patch.setattr(torch.Tensor, name, self._refusing(name, getattr(torch.Tensor, name)))
        if importlib.util.find_spec("triton") is not None:
            from triton.runtime.interpreter import GridExecutor

            patch.setattr(GridExecutor, "__call__", self._launching(GridExecutor.__call__))

    def _refusing(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def read(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.recorder is not None and not self.recorder.is_launching:
                raise RuntimeError(f"Tensor.{name} waits for the device, which cannot be captured")
            return original(tensor, *args, **kwargs)

        return read

    def _launching(self, original: Callable[..., None]) -> Callable[..., None]:
        def launch(executor: Any, *args: Any, **kwargs: Any) -> None:
            recorder = self.recorder
            if recorder is None:
                return original(executor, *args, **kwargs)
            recorder.is_launching = True
            try:
                original(executor, *args, **kwargs)
            finally:
                recorder.is_launching = False
            recorder.ops.append(lambda: original(executor, *args, **kwargs))

        return launch


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.ops: list[Callable[[], None]] = []
        self.is_launching = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self.is_launching and "empty" not in func.__name__:
            self.ops.append(lambda: _copy(func(*args, **kwargs), result))
        return result


def _copy(again: Any, first: Any) -> None:
    """Put the results of a replay where the captured ones are; views and in-place ops are there already."""
    for new, old in zip(tree_flatten(again)[0], tree_flatten(first)[0], strict=True):
        if isinstance(old, torch.Tensor) and new.data_ptr() != old.data_ptr():
            old.copy_(new)
