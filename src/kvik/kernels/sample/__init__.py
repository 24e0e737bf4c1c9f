"""Choosing one token per row: arg max, or a draw after temperature, min-p, top-k and top-p.

With z = (logit - max logit) / temperature, a token's weight is the whole number floor(exp(z) 2^40). Min-p keeps
z >= log(min_p); top-k keeps the k best of those (order: z descending, then id ascending); top-p keeps, in that order,
each token before which less than top_p of the remaining weight lies. The draw is a 64-bit Philox number scaled to the
weight that is left: the chosen token is the first in ascending id whose cumulative weight exceeds it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.lazy import LazyModule
from kvik.kernels.runtime import runs_native, runs_triton
from kvik.kernels.sample import cpu, reference

triton = LazyModule(f"{__name__}.triton")


def sample(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seeds: Tensor, positions: Tensor
) -> Tensor:
    """One token id per row, [R] int64; -1 for a row that holds NaN or +inf, or nothing but -inf.

    logits [R, V] fp32, read only. All others [R]: temperature, top_p, min_p fp32, top_k int32, seeds and positions
    int64. Temperature 0 is arg max, lowest id on ties; top_k <= 0, top_p 1 and min_p 0 are off. The random number is
    Philox4x32-10 of (seed, position), so a row's token depends on that row alone. Raises ValueError for wrong shapes.
    """
    _check(logits, (temperature, top_p, min_p), torch.float32)
    _check(logits, (top_k,), torch.int32)
    _check(logits, (seeds, positions), torch.int64)
    if runs_native(logits):
        return cpu.sample(logits, temperature, top_k, top_p, min_p, seeds, positions)
    if runs_triton(logits):
        return triton.sample(logits, temperature, top_k, top_p, min_p, seeds, positions)
    return reference.sample(logits, temperature, top_k, top_p, min_p, seeds, positions)


def arg_max(logits: Tensor) -> Tensor:
    """`sample` at temperature 0 for all rows of logits [R, V] fp32: [R] int64, -1 for an unsound row."""
    _check(logits, (), torch.float32)
    if runs_native(logits):
        return cpu.arg_max(logits)
    if runs_triton(logits):
        return triton.arg_max(logits)
    return reference.arg_max(logits)


def kept_tokens(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """The tokens that `sample` can choose from, [R, V] bool: all for an arg max row, none for an unsound one."""
    _check(logits, (temperature, top_p, min_p), torch.float32)
    _check(logits, (top_k,), torch.int32)
    if runs_native(logits):
        return cpu.kept_tokens(logits, temperature, top_k, top_p, min_p)
    if runs_triton(logits):
        return triton.kept_tokens(logits, temperature, top_k, top_p, min_p)
    return reference.kept_tokens(logits, temperature, top_k, top_p, min_p)


def _check(logits: Tensor, per_row: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    if logits.dim() != 2 or logits.shape[1] < 1 or logits.dtype != torch.float32:
        raise ValueError(f"logits must be [R, V] float32, got {list(logits.shape)} {logits.dtype}")
    for values in per_row:
        if values.dim() != 1 or len(values) != len(logits) or values.dtype is not dtype or not values.is_contiguous():
            raise ValueError(
                f"this parameter must be contiguous [{len(logits)}] {dtype}, a value per row of the logits, got "
                f"{list(values.shape)} {values.dtype}"
            )


__all__ = ["arg_max", "kept_tokens", "sample"]
