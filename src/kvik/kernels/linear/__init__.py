"""The matrix product behind every linear layer, and the weight that it reads.

Inputs, sums and outputs are fp32; the weight is fp32 or bf16. A row's result does not depend on its neighbours: each
output element is one chain of fp32 multiply-adds over K in ascending order, whatever the number of rows or threads.
(The reference leaves the order to torch.)
"""

from __future__ import annotations

import torch

from kvik.kernels.linear import cpu, reference
from kvik.kernels.linear.packed_weight import PackedWeight

__all__ = ["PackedWeight", "linear"]


def linear(x: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [T, K] @ weight [N, K]^T + bias [N] -> [T, N]; x, bias and result fp32, or all in a plain weight's dtype.

    Raises ValueError where shapes or dtypes do not fit each other.
    """
    if x.dim() != 2 or x.shape[1] != weight.k or not _takes(weight, x.dtype):
        wanted = "torch.float32" if weight.is_packed else f"torch.float32 or {weight.dtype}"
        raise ValueError(f"linear: x is {list(x.shape)} {x.dtype}; for this weight it must be [T, {weight.k}] {wanted}")
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != weight.n or bias.dtype is not x.dtype):
        raise ValueError(
            f"linear: bias is {list(bias.shape)} {bias.dtype}; for this weight and x it must be [{weight.n}] {x.dtype}"
        )
    if not (x.is_cpu is weight.data.is_cpu and (bias is None or bias.is_cpu is x.is_cpu)):
        raise ValueError(f"linear: x lies on {x.device}; it, the bias and the weight must be on {weight.data.device}")
    if weight.is_packed:
        return cpu.linear(x, weight, bias)
    return reference.linear(x, weight.data, bias)


def _takes(weight: PackedWeight, dtype: torch.dtype) -> bool:
    return dtype is torch.float32 or (dtype is weight.dtype and not weight.is_packed)
