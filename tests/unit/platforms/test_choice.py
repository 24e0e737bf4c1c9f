"""What a start says of its device."""

from __future__ import annotations

from kvik.platforms.choice import gpu_lines, why_cpu
from kvik.platforms.gpus import Gpu, Gpus

H200 = Gpu(1, "NVIDIA H200", "GPU-1", 150 << 30, 149 << 30, (9, 0))
NONE = Gpus(why_none="this machine has no NVIDIA driver")
ONE = Gpus((H200,), 2, "570.86")


def test_the_cpu_computes_for_a_reason() -> None:
    assert why_cpu("cpu", ONE) == "as --device cpu asks"
    assert why_cpu("auto", NONE) == "this machine has no NVIDIA driver"
    assert "no CUDA backend" in why_cpu("auto", ONE)


def test_gpus_are_told_of_one_by_one() -> None:
    assert gpu_lines(NONE) == []
    assert gpu_lines(ONE) == ["NVIDIA driver 570.86, 1 of 2 GPU(s) visible", "GPU 1: NVIDIA H200, 150.0 GiB, sm_90"]
