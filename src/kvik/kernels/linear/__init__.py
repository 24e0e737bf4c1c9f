"""The matrix product behind every linear layer, and the weight that it reads.

On a CPU inputs, sums and outputs are fp32; the weight is fp32, bf16, 16-bit fixed point (q16) or quantised. A row's
result does not depend on its neighbours: each output element is one chain of fp32 multiply-adds over K in ascending
order, whatever the number of rows or threads. (The reference leaves the order to torch.)

Where the weight is q16, each row of it was rounded to whole steps of max |w| / 16,383, and the inputs are, in groups of
32, to steps of max |x| / 4,095. Products and their sums in a group are whole numbers below 2^31, hence exact; the chain
runs over the groups.

Where the weight is quantised, so are the inputs: each row in groups of 32, the largest element of a group to 16 bits
and the others to int8, with the scale max |x| / 127 of these for all. Products and their sums in a group (q6_k: 16) are
whole numbers, hence exact; the chain runs over the groups.

On a GPU inputs and outputs are fp32, bf16 or fp16 and sums fp32. A weight of floats is multiplied by torch. Elements of
a quantised one are formed in fp32 and rounded to the inputs' dtype; the inputs are not rounded.

With a weight in 8-bit floats the inputs become such floats too, each row (of "fp8_block" each 128 of a row) with the
scale max |x| / 448, or by the scale that the checkpoint gives; products are exact, their sums fp32, and the scales come
last. Weights whose inputs are to stay as they are, and GPUs below sm_89, take the codes times the inputs instead, which
rounds neither.

A row's last bits may depend on a GPU on how many rows there are, which decides how the work is cut, but not on what is
in them.
"""

from __future__ import annotations

import torch

from kvik.kernels.arena import empty_beside
from kvik.kernels.lazy import LazyModule
from kvik.kernels.linear import cpu, gpu_floats, reference
from kvik.kernels.linear.formats import FIXED_POINT, QUANTIZED, takes
from kvik.kernels.linear.fp8_layout import FP8_FORMATS
from kvik.kernels.linear.packed_weight import PackedWeight
from kvik.kernels.runtime import runs_triton

__all__ = ["FIXED_POINT", "FP8_FORMATS", "QUANTIZED", "PackedWeight", "linear", "takes"]

triton = LazyModule(f"{__name__}.triton")
fp8 = LazyModule(f"{__name__}.fp8")
_GPU_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def linear(
    x: torch.Tensor,
    weight: PackedWeight,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    out_column: int = 0,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """x [T, K] @ weight [N, K]^T + bias [N] -> [T, N]; x, bias and result fp32, or all in a plain weight's dtype, or on
    a GPU in any of fp32, bf16 and fp16 for a quantised weight.

    With `out` [T, columns] the result is written to its columns [out_column, out_column + N), and that view returned:
    so parts of different formats make one merged output. `dtype`: of the result, x's or fp32, where it is not x's: the
    sums are then rounded once. Raises ValueError where shapes or dtypes do not fit.
    """
    _check(x, weight, bias)
    if dtype not in (None, x.dtype) and (out is not None or dtype is not torch.float32):
        raise ValueError(f"linear: the result cannot be {dtype}; it must be {x.dtype}, or without `out` torch.float32")
    dtype = dtype or x.dtype
    view = None if out is None else _columns(out, out_column, x, weight)
    if weight.dtype is not None and runs_triton(x):
        return gpu_floats.linear(x, weight.data, bias, view, dtype)
    if view is None:
        view = empty_beside(x, weight.n) if dtype is x.dtype else x.new_empty(x.shape[0], weight.n, dtype=dtype)
    if weight.is_packed:
        cpu.linear(view, x, weight, bias)
    elif weight.is_fp8 and runs_triton(x):
        fp8.linear(view, x, weight, bias)
    elif weight.is_fp8:
        view.copy_(reference.fp8_linear(x, weight.data, weight.format, bias, weight.input_scale))
    elif weight.is_for_gpu:
        triton.linear(view, x, weight, bias)
    elif weight.format in QUANTIZED:
        view.copy_(reference.quantized_linear(x, weight.plain(), bias))
    else:
        view.copy_(reference.linear(x, weight.data, bias))
    return view


def _check(x: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None) -> None:
    if x.dim() != 2 or x.shape[1] != weight.k or x.dtype not in _input_dtypes(weight):
        wanted = " or ".join(map(str, _input_dtypes(weight)))
        raise ValueError(f"linear: x is {list(x.shape)} {x.dtype}; for this weight it must be [T, {weight.k}] {wanted}")
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != weight.n or bias.dtype is not x.dtype):
        raise ValueError(
            f"linear: bias is {list(bias.shape)} {bias.dtype}; for this weight and x it must be [{weight.n}] {x.dtype}"
        )
    if not (x.is_cpu is weight.data.is_cpu and (bias is None or bias.is_cpu is x.is_cpu)):
        raise ValueError(f"linear: x lies on {x.device}; it, the bias and the weight must be on {weight.data.device}")


def _columns(out: torch.Tensor, out_column: int, x: torch.Tensor, weight: PackedWeight) -> torch.Tensor:
    end = out_column + weight.n
    fits = out.dim() == 2 and out.shape[0] == x.shape[0] and out_column >= 0 and end <= out.shape[1]
    if not fits or out.dtype is not x.dtype or out.device != x.device or out.stride(1) != 1:
        raise ValueError(
            f"linear: out is {list(out.shape)} {out.dtype} on {out.device}; to take columns [{out_column}, {end}) it "
            f"must be [{x.shape[0]}, {end} or more] {x.dtype} on {x.device}, contiguous in its rows"
        )
    return out[:, out_column:end]


def _input_dtypes(weight: PackedWeight) -> tuple[torch.dtype, ...]:
    if weight.is_for_gpu or weight.is_fp8:
        return _GPU_DTYPES
    plain = weight.dtype is not None and not weight.is_packed and weight.dtype is not torch.float32
    return (torch.float32, weight.dtype) if plain and weight.dtype is not None else (torch.float32,)
