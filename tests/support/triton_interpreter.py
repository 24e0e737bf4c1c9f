"""Triton's interpreter as the stand-in of a GPU: on tensors of the CPU, with a GPU's rounding and no warnings."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from kvik.kernels import runtime

_TORCH_DTYPES = {
    "fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16,
    "fp8e4nv": torch.float8_e4m3fn, "fp8e5": torch.float8_e5m2,
}  # fmt: skip
_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@contextmanager
def standing_in_for_gpu() -> Iterator[None]:
    """Inside, kernels of Triton compute on the CPU's tensors. Skips the test where there is no triton, or a GPU."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: it is there for Linux only")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("there is a GPU, so Triton does not interpret: tests/gpu has its kernels")
    _round_as_a_gpu_does()
    with runtime.standing_in_for_gpu(), np.errstate(all="ignore"):
        yield


def _round_as_a_gpu_does() -> None:
    """The interpreter's own conversion of floats cuts digits off, where a GPU rounds to the nearest even; and it takes
    the bits of bf16 for whole numbers in a product."""
    from triton.runtime import interpreter

    interpreter._convert_float = _convert_float
    interpreter.InterpreterBuilder.create_dot = _dot


def _dot(builder: Any, a: Any, b: Any, c: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
    """a b + c with fp32 sums, as matrix units have it for floats of 16 and 8 bits; whole numbers in c's type."""
    from triton.runtime.interpreter import TensorHandle

    left, right = (_widened(x) if x.dtype.scalar.is_floating() else x.data.astype(c.data.dtype) for x in (a, b))
    return TensorHandle(np.matmul(left, right, dtype=c.data.dtype) + c.data, c.dtype.scalar)


def _widened(x: Any) -> npt.NDArray[Any]:
    """fp32, or fp64 as it is."""
    name = x.dtype.scalar.name
    bits = torch.from_numpy(np.ascontiguousarray(x.data).view(np.uint8)).view(_TORCH_DTYPES[name])
    wide = bits if name == "fp64" else bits.float()
    return wide.numpy().reshape(x.data.shape)


def _convert_float(data: npt.NDArray[Any], source: Any, target: Any, rounding: Any) -> npt.NDArray[Any]:
    """The bits of `data` after the conversion, as torch has it."""
    given = torch.from_numpy(np.ascontiguousarray(data).view(np.uint8)).view(_TORCH_DTYPES[source.name])
    converted = given.to(_TORCH_DTYPES[target.name])
    bits = _BITS[converted.dtype.itemsize]
    return converted.view(torch.uint8).numpy().view(bits).reshape(data.shape)
