"""The device that a configuration comes to on this machine, opened and told of in the log."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import replace

import torch

from kvik.config import DeviceConfig, EngineConfig, env
from kvik.errors import ConfigError
from kvik.parallel.torch_group import stay_on_this_machine
from kvik.platforms import cpu
from kvik.platforms.choice import Choice, TorchFacts, choose, gpu_lines
from kvik.platforms.gpus import VISIBLE, find_gpus
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


def for_workers(config: EngineConfig) -> tuple[EngineConfig, list[dict[str, str]]]:
    """The configuration of each worker, its device settled, and what its environment has of its own.

    GPUs: each sees one, in the order of CUDA_VISIBLE_DEVICES. The CPU: each has an equal part of the threads. Raises
    `ConfigError` where there are fewer GPUs than workers, or --device cuda cannot be had.
    """
    size, found = config.parallel.tensor_parallel_size, find_gpus()
    own: dict[str, str] = {}
    stay_on_this_machine(own)
    own = {name: os.environ.get(name, value) for name, value in own.items()}
    if choose(config.device.device, found, _torch_facts()).gpu is None:
        threads = max(1, num_threads(config.device.cpu_threads) // size)
        return replace(config, device=DeviceConfig("cpu", threads)), [own] * size
    if len(found.visible) < size:
        raise ConfigError(
            f"--tensor-parallel-size {size} needs as many GPUs, and this process may use {len(found.visible)}: take "
            f"--tensor-parallel-size {len(found.visible)} or less, let {VISIBLE} name more, or take --device cpu"
        )
    gpus = found.visible[:size]
    return replace(config, device=replace(config.device, device="cuda")), [own | {VISIBLE: gpu.uuid} for gpu in gpus]


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
