"""The middle of a gated feed-forward layer (Shazeer, "GLU Variants Improve Transformer", 2020)."""

from __future__ import annotations

import torch

from kvik.kernels.gated_activation import cpu, reference
from kvik.kernels.lazy import LazyModule
from kvik.kernels.runtime import runs_native, runs_triton

__all__ = ["KINDS", "gated_activation"]

triton = LazyModule(f"{__name__}.triton")

# The order is the native kernel's numbering.
KINDS = ("silu", "gelu_tanh")


def gated_activation(x: torch.Tensor, kind: str) -> torch.Tensor:
    """x [T, 2I] = [gate | up] -> kind(gate) * up [T, I]; the activation is rounded to the dtype, and the product.

    Raises ValueError for a kind that is not in KINDS or an odd number of columns.
    """
    if kind not in KINDS:
        raise ValueError(f"gated_activation: the kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if x.dim() != 2 or x.shape[1] % 2:
        raise ValueError(f"gated_activation: x is {list(x.shape)}; it must be [T, 2 * I]")
    if runs_native(x):
        return cpu.gated_activation(x, KINDS.index(kind))
    if runs_triton(x):
        return triton.gated_activation(x, kind)
    return reference.gated_activation(x, kind)
