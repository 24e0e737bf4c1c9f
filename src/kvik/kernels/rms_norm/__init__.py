"""Root-mean-square norm of rows (Zhang and Sennrich, 2019), alone or after adding the residual."""

from __future__ import annotations

import torch

from kvik.kernels.lazy import LazyModule
from kvik.kernels.rms_norm import cpu, reference
from kvik.kernels.runtime import runs_native, runs_triton

__all__ = ["add_rms_norm", "rms_norm"]

triton = LazyModule(f"{__name__}.triton")


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, *, unit_offset: bool = False) -> torch.Tensor:
    """x [T, H] / rms(x) * weight [H] -> [T, H] in x's dtype, with fp32 sums.

    The norm is fp32. Llama's way rounds it to x's dtype, then its product with the weight. With `unit_offset`
    (Gemma) the factor is 1 + weight, the product is fp32 and rounded once. Raises ValueError on shapes or dtypes.
    """
    _check(x, weight)
    if runs_native(x):
        return cpu.rms_norm(x, weight, eps, unit_offset)
    if runs_triton(x):
        return triton.rms_norm(x, weight, eps, unit_offset=unit_offset)
    return reference.rms_norm(x, weight, eps, unit_offset=unit_offset)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float, *, unit_offset: bool = False
) -> torch.Tensor:
    """residual [T, H] += x [T, H] in place, rounded to the dtype; returns `rms_norm(residual, weight, eps)`."""
    _check(x, weight)
    if residual.shape != x.shape or residual.dtype is not x.dtype or residual.is_cpu is not x.is_cpu:
        raise ValueError(f"add_rms_norm: residual is {_describe(residual)}; it must be as x, which is {_describe(x)}")
    if not residual.is_contiguous():
        raise ValueError(
            f"add_rms_norm: residual has strides {residual.stride()}; it is changed in place and must be contiguous"
        )
    if runs_native(x):
        return cpu.add_rms_norm(x, residual, weight, eps, unit_offset)
    if runs_triton(x):
        return triton.add_rms_norm(x, residual, weight, eps, unit_offset=unit_offset)
    return reference.add_rms_norm(x, residual, weight, eps, unit_offset=unit_offset)


def _check(x: torch.Tensor, weight: torch.Tensor) -> None:
    if weight.is_cpu is not x.is_cpu:
        raise ValueError(f"rms_norm: x lies on {x.device} and weight on {weight.device}; it must be one device")
    if x.dim() != 2 or weight.dim() != 1 or x.shape[1] != weight.shape[0] or weight.dtype is not x.dtype:
        raise ValueError(
            f"rms_norm: x is {_describe(x)} and weight {_describe(weight)}; they must be [T, H] and [H] of one dtype"
        )


def _describe(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} {tensor.dtype} on {tensor.device}"
