"""The matrix product behind every linear layer, and the weight that it reads.

Inputs, sums and outputs are fp32; the weight is fp32, bf16, 16-bit fixed point (q16) or quantised. A row's result does
not depend on its neighbours: each output element is one chain of fp32 multiply-adds over K in ascending order, whatever
the number of rows or threads. (The reference leaves the order to torch.)

Where the weight is q16, each row of it was rounded to whole steps of max |w| / 16,383, and the inputs are, in groups of
32, to steps of max |x| / 4,095. Products and their sums in a group are whole numbers below 2^31, hence exact; the chain
runs over the groups.

Where the weight is quantised, so are the inputs: each row in groups of 32, the largest element of a group to 16 bits
and the others to int8, with the scale max |x| / 127 of these for all. Products and their sums in a group (q6_k: 16) are
whole numbers, hence exact; the chain runs over the groups.
"""

from __future__ import annotations

import torch

from kvik.kernels.arena import empty_beside
from kvik.kernels.linear import cpu, reference
from kvik.kernels.linear.formats import FIXED_POINT, QUANTIZED, takes
from kvik.kernels.linear.packed_weight import PackedWeight

__all__ = ["FIXED_POINT", "QUANTIZED", "PackedWeight", "linear", "takes"]


def linear(
    x: torch.Tensor,
    weight: PackedWeight,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    out_column: int = 0,
) -> torch.Tensor:
    """x [T, K] @ weight [N, K]^T + bias [N] -> [T, N]; x, bias and result fp32, or all in a plain weight's dtype.

    With `out` [T, columns] the result is written to its columns [out_column, out_column + N), and that view returned:
    so parts of different formats make one merged output. Raises ValueError where shapes or dtypes do not fit.
    """
    if x.dim() != 2 or x.shape[1] != weight.k or not _takes_input(weight, x.dtype):
        plain_float = weight.dtype is not None and not weight.is_packed
        wanted = f"torch.float32 or {weight.dtype}" if plain_float else "torch.float32"
        raise ValueError(f"linear: x is {list(x.shape)} {x.dtype}; for this weight it must be [T, {weight.k}] {wanted}")
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != weight.n or bias.dtype is not x.dtype):
        raise ValueError(
            f"linear: bias is {list(bias.shape)} {bias.dtype}; for this weight and x it must be [{weight.n}] {x.dtype}"
        )
    if not (x.is_cpu is weight.data.is_cpu and (bias is None or bias.is_cpu is x.is_cpu)):
        raise ValueError(f"linear: x lies on {x.device}; it, the bias and the weight must be on {weight.data.device}")
    view = empty_beside(x, weight.n) if out is None else _columns(out, out_column, x, weight)
    if weight.is_packed:
        cpu.linear(view, x, weight, bias)
    elif weight.format in QUANTIZED:
        view.copy_(reference.quantized_linear(x, weight.plain(), bias))
    else:
        view.copy_(reference.linear(x, weight.data, bias))
    return view


def _columns(out: torch.Tensor, out_column: int, x: torch.Tensor, weight: PackedWeight) -> torch.Tensor:
    end = out_column + weight.n
    fits = out.dim() == 2 and out.shape[0] == x.shape[0] and out_column >= 0 and end <= out.shape[1]
    if not fits or out.dtype is not x.dtype or out.device != x.device or out.stride(1) != 1:
        raise ValueError(
            f"linear: out is {list(out.shape)} {out.dtype} on {out.device}; to take columns [{out_column}, {end}) it "
            f"must be [{x.shape[0]}, {end} or more] {x.dtype} on {x.device}, contiguous in its rows"
        )
    return out[:, out_column:end]


def _takes_input(weight: PackedWeight, dtype: torch.dtype) -> bool:
    return dtype is torch.float32 or (dtype is weight.dtype and not weight.is_packed)
