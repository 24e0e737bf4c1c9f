"""Which device a start takes, and what it says of that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvik.errors import ConfigError
from kvik.platforms.choice import Choice, TorchFacts, choose, gpu_lines
from kvik.platforms.gpus import Gpu, Gpus

H200 = Gpu(1, "NVIDIA H200", "GPU-1", 150 << 30, 149 << 30, (9, 0))
T4 = Gpu(0, "Tesla T4", "GPU-0", 16 << 30, 15 << 30, (7, 5))
NONE = Gpus(why_none="this machine has no NVIDIA driver")
ONE = Gpus((H200,), 2, "570.86")
TORCH = TorchFacts("2.13.0+cu130", "13.0", has_triton=True)
CPU_TORCH = TorchFacts("2.13.0+cpu", None, has_triton=False)


def test_a_gpu_that_is_there_computes() -> None:
    assert choose("auto", ONE, TORCH) == Choice(H200, "it is there")
    assert choose("cuda", ONE, TORCH) == Choice(H200, "as --device cuda asks")
    assert choose("cpu", ONE, TORCH) == Choice(None, "as --device cpu asks")


@pytest.mark.parametrize(
    ("found", "torch", "reason"),
    [
        (NONE, TORCH, "no NVIDIA driver"),
        (Gpus((), 2, "570.86", "CUDA_VISIBLE_DEVICES='' names none of the 2 GPU(s)"), TORCH, "CUDA_VISIBLE_DEVICES"),
        (Gpus((T4,), 1, "570.86"), TORCH, "Tesla T4 has compute capability 7.5, and 8.0 or more is needed"),
        (ONE, CPU_TORCH, r"torch 2.13.0\+cpu is built without CUDA; .*pip install torch"),
        (ONE, replace(TORCH, has_triton=False), "pip install triton"),
    ],
)
def test_what_stands_in_the_way_is_said(found: Gpus, torch: TorchFacts, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"--device cuda: .*{reason}.*--device cpu") as caught:
        choose("cuda", found, torch)
    choice = choose("auto", found, torch)
    assert choice.gpu is None
    assert choice.why in str(caught.value)


def test_gpus_are_told_of_one_by_one() -> None:
    assert gpu_lines(NONE) == []
    assert gpu_lines(ONE) == ["NVIDIA driver 570.86, 1 of 2 GPU(s) visible", "GPU 1: NVIDIA H200, 150.0 GiB, sm_90"]
