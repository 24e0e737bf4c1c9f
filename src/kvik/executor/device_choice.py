"""The device that a configuration comes to on this machine, opened and told of in the log."""

from __future__ import annotations

import importlib.util
import logging
import os

import torch

from kvik.config import EngineConfig, env
from kvik.errors import ConfigError
from kvik.platforms import cpu
from kvik.platforms.choice import Choice, TorchFacts, choose, gpu_lines
from kvik.platforms.gpus import find_gpus
from kvik.runner.cpu_device import CpuDevice
from kvik.runner.device import Device
from kvik.runner.gpu import CudaGpu
from kvik.runner.gpu_device import GpuDevice

logger = logging.getLogger(__name__)


def open_device(config: EngineConfig) -> Device:
    """Raises `ConfigError` where --device cuda cannot be had."""
    asked = config.device.device
    found = find_gpus()
    for line in gpu_lines(found):
        logger.info("%s", line)
    choice = choose(asked, found, _torch_facts())
    if choice.gpu is not None:
        try:
            return _open_gpu(choice)
        except RuntimeError as error:  # a driver that is too old for this torch, a GPU in a bad state
            if asked == "cuda":
                raise ConfigError(f"--device cuda: CUDA does not start: {error}. Or take --device cpu") from None
            choice = Choice(None, f"CUDA does not start: {error}")
    logger.info("Computing on the CPU: %s", choice.why)
    return CpuDevice(num_threads(config.device.cpu_threads))


def _open_gpu(choice: Choice) -> Device:
    assert choice.gpu is not None
    os.environ.setdefault("TRITON_CACHE_DIR", str(env.cache_root() / "triton"))  # read when triton is first imported
    device = GpuDevice(CudaGpu(), choice.gpu.free_bytes)
    logger.info("Computing on GPU %d: %s", choice.gpu.index, choice.why)
    return device


def _torch_facts() -> TorchFacts:
    return TorchFacts(torch.__version__, torch.version.cuda, importlib.util.find_spec("triton") is not None)


def num_threads(asked: int | None) -> int:
    """Threads that compute on a CPU: as asked, else a thread per core."""
    num_cores = cpu.num_cores()
    if asked is not None and asked > num_cores:
        logger.warning(
            "--cpu-threads %d is more than the %d core(s) that this process may use: threads will wait for each other. "
            "Leave it out to use all cores.", asked, num_cores,
        )  # fmt: skip
    return asked or num_cores
