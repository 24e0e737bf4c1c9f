"""What the driver tells of GPUs, and which of them a process may use."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.platforms import gpus
from kvik.platforms.gpus import Gpu, Gpus, find_gpus, visible_of

INSTALLED = [
    Gpu(i, "H200", uuid, 150 << 30, 149 << 30, (9, 0)) for i, uuid in enumerate(("GPU-aa11", "GPU-aa22", "GPU-bb33"))
]


class FakeNvmlError(Exception):
    pass


@dataclass
class FakeNvml:
    """Stands in for the module pynvml. `failing`: the function that raises."""

    uuids: tuple[Any, ...] = ("GPU-aa11", "GPU-aa22", b"GPU-bb33")
    failing: str = ""
    num_open: int = 0
    NVMLError: type[Exception] = field(default=FakeNvmlError)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name == object.__getattribute__(self, "failing"):
            raise FakeNvmlError(f"{name} is not supported")
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:
        self.num_open += 1

    def nvmlShutdown(self) -> None:
        self.num_open -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"570.86"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=150 << 30, free=149 << 30)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return 9, 0

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "H200"

    def nvmlDeviceGetUUID(self, handle: int) -> Any:
        return self.uuids[handle]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeNvml:
    """A machine with a driver."""
    made = FakeNvml()
    monkeypatch.setattr(gpus, "_DRIVER_FILES", (tmp_path,))
    monkeypatch.setitem(sys.modules, "pynvml", made)  # type: ignore[arg-type]
    return made


def test_all_are_visible_unless_something_is_said(nvml: FakeNvml) -> None:
    found = find_gpus({})
    assert found == Gpus(tuple(INSTALLED), 3, "570.86")
    assert str(found.visible[2]) == "GPU 2: H200, 150.0 GiB, sm_90"
    assert nvml.num_open == 0


@pytest.mark.parametrize(
    ("asked", "indices"),
    [
        ("0", [0]), ("2,0", [2, 0]), (" 1 , 2 ", [1, 2]), ("GPU-bb", [2]), ("GPU-aa22,0", [1, 0]),
        ("", []), ("-1", []), ("7", []), ("0,7,1", [0]), ("x,0", []), ("GPU-aa", []), ("0,0", []), ("0,GPU-aa11", []),
        ("NoDevFiles", []), ("1,", [1]),
    ],
)  # fmt: skip
def test_cudas_own_rules(asked: str, indices: list[int]) -> None:
    assert [gpu.index for gpu in visible_of(asked, INSTALLED)] == indices


@given(st.text(max_size=20))
def test_no_text_is_too_odd(asked: str) -> None:
    found = visible_of(asked, INSTALLED)
    assert len({gpu.uuid for gpu in found}) == len(found)


def test_why_there_is_none(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "9"}).why_none == "CUDA_VISIBLE_DEVICES='9' names none of the 3 GPU(s)"
    nvml.uuids = ()
    assert find_gpus({}).why_none == "the NVIDIA driver knows no GPU"
    for failing in ("nvmlDeviceGetCount", "nvmlInit"):
        nvml.failing = failing
        assert failing in find_gpus({}).why_none
    assert nvml.num_open == 0
    monkeypatch.setattr(gpus, "_DRIVER_FILES", ())
    assert find_gpus({}) == Gpus(why_none="this machine has no NVIDIA driver")


def test_without_a_driver_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_DRIVER_FILES", ())
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_gpus({}).why_none


@pytest.mark.gpu
def test_the_gpus_of_this_machine() -> None:
    found = find_gpus({})
    assert found.visible, found.why_none
    assert all(gpu.total_bytes > 1 << 30 and gpu.capability >= (7, 0) for gpu in found.visible)
