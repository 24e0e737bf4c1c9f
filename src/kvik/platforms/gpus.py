"""The NVIDIA GPUs of the machine, asked of the driver through NVML: no CUDA context, no torch, a few milliseconds.

Where there is no driver nothing is imported. Which GPUs a process may use follows CUDA's own rules
(https://docs.nvidia.com/cuda/cuda-c-programming-guide/#env-vars).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DRIVER_FILES = (Path("/proc/driver/nvidia"), Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""One of them is there where a driver is; the last one in a Linux on Windows."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One that this process may use."""

    index: int
    """The driver's own, as nvidia-smi shows it."""
    name: str
    uuid: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    """Compute capability, such as (9, 0)."""

    def __str__(self) -> str:
        major, minor = self.capability
        return f"GPU {self.index}: {self.name}, {self.total_bytes / 2**30:.1f} GiB, sm_{major}{minor}"


@dataclass(frozen=True, slots=True)
class Gpus:
    """What was found. `why_none` says why there is none to use; "" where there is one."""

    visible: tuple[Gpu, ...] = ()
    num_installed: int = 0
    driver: str | None = None
    why_none: str = ""


def find_gpus(environ: Mapping[str, str] = os.environ) -> Gpus:
    """Never raises: a driver that does not answer is a reason, too."""
    if not any(file.exists() for file in _DRIVER_FILES):
        return Gpus(why_none="this machine has no NVIDIA driver")
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:
        return Gpus(why_none=f"the NVIDIA driver does not answer: {error}")
    try:
        return _ask(pynvml, environ)
    except pynvml.NVMLError as error:
        return Gpus(why_none=f"the NVIDIA driver does not tell of its GPUs: {error}")
    finally:
        pynvml.nvmlShutdown()


def _ask(nvml: Any, environ: Mapping[str, str]) -> Gpus:
    """`nvml` is the module, or what can take its place."""
    driver = _text(nvml.nvmlSystemGetDriverVersion())
    installed = [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    asked = environ.get(VISIBLE)
    visible = installed if asked is None else visible_of(asked, installed)
    why_none = ""
    if not installed:
        why_none = "the NVIDIA driver knows no GPU"
    elif not visible:
        why_none = f"{VISIBLE}={asked!r} names none of the {len(installed)} GPU(s)"
    return Gpus(tuple(visible), len(installed), driver, why_none)


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        index, _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle)),
        int(memory.total), int(memory.free), (int(major), int(minor)),
    )  # fmt: skip


def visible_of(asked: str, installed: Sequence[Gpu]) -> list[Gpu]:
    """Those that CUDA_VISIBLE_DEVICES names, in its order. As CUDA has it, the first word that names none ends the
    list, and a GPU named twice leaves nothing."""
    found: list[Gpu] = []
    for word in asked.split(","):
        gpu = _named(word.strip(), installed)
        if gpu is None:
            break
        if gpu in found:
            return []
        found.append(gpu)
    return found


def _named(word: str, installed: Sequence[Gpu]) -> Gpu | None:
    """By index, or by a beginning of its UUID that no other one has."""
    if word.isascii() and word.isdecimal():
        return installed[int(word)] if int(word) < len(installed) else None
    if not word.startswith("GPU-"):
        return None
    matching = [gpu for gpu in installed if gpu.uuid.startswith(word)]
    return matching[0] if len(matching) == 1 else None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
