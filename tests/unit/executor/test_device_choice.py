"""The device of a start, on whatever machine this is."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from fakes.fake_gpu import FakeGpu
from fakes.tiny_config import tiny_config
from kvik.config import DeviceConfig, EngineConfig
from kvik.errors import ConfigError
from kvik.executor import device_choice
from kvik.executor.device_choice import open_device
from kvik.platforms.choice import TorchFacts
from kvik.platforms.gpus import Gpu, Gpus

H200 = Gpu(0, "NVIDIA H200", "GPU-1", 150 << 30, 149 << 30, (9, 0))


def config(device: str) -> EngineConfig:
    return replace(tiny_config(), device=DeviceConfig(device, cpu_threads=1))


@pytest.fixture
def machine_with_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(device_choice, "find_gpus", lambda: Gpus((H200,), 1, "570.86"))
    monkeypatch.setattr(device_choice, "_torch_facts", lambda: TorchFacts("2.13", "13.0", has_triton=True))
    monkeypatch.setenv("TRITON_CACHE_DIR", "/nowhere")
    return monkeypatch


def test_the_cpu_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert open_device(config("cpu")).kind == "cpu"
    assert "Computing on the CPU: as --device cpu asks" in caplog.text


def test_a_gpu_that_is_there(machine_with_gpu: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    machine_with_gpu.setattr(device_choice, "CudaGpu", FakeGpu)
    with caplog.at_level(logging.INFO):
        assert open_device(config("auto")).kind == "cuda"
    assert "NVIDIA driver 570.86" in caplog.text
    assert "Computing on GPU 0: it is there" in caplog.text


def test_a_cuda_that_does_not_start(machine_with_gpu: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def no_cuda() -> FakeGpu:
        raise RuntimeError("the NVIDIA driver on your system is too old")

    machine_with_gpu.setattr(device_choice, "CudaGpu", no_cuda)
    with pytest.raises(ConfigError, match="CUDA does not start: the NVIDIA driver on your system is too old"):
        open_device(config("cuda"))
    with caplog.at_level(logging.INFO):
        assert open_device(config("auto")).kind == "cpu"
    assert "Computing on the CPU: CUDA does not start: the NVIDIA driver" in caplog.text


def test_asking_for_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_choice, "find_gpus", lambda: Gpus(why_none="this machine has no NVIDIA driver"))
    with pytest.raises(ConfigError, match="--device cuda: this machine has no NVIDIA driver"):
        open_device(config("cuda"))
