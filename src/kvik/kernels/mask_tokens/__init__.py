"""Packed bits of allowed tokens -> logits that are -inf everywhere else, in place."""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.lazy import LazyModule
from kvik.kernels.mask_tokens import cpu, reference
from kvik.kernels.runtime import runs_native, runs_triton

triton = LazyModule(f"{__name__}.triton")


def mask_tokens(logits: Tensor, rows: Tensor, masks: Tensor) -> None:
    """Rule out what masks[i] does not allow of logits[rows[i]].

    logits [R, V] fp32, contiguous; rows [N] int32, each at most once; masks [N, W] int32 with at least V bits: bit
    i % 32 of word i // 32 is set where token i is allowed. Raises ValueError for a wrong shape or dtype, and
    on a CPU for a wrong row. On a GPU nothing is waited for.
    """
    if logits.dim() != 2 or logits.dtype != torch.float32 or not logits.is_contiguous():
        raise ValueError(f"logits must be [R, V] float32 and contiguous, got {list(logits.shape)} {logits.dtype}")
    if masks.dtype != torch.int32 or masks.dim() != 2 or masks.shape[1] * 32 < logits.shape[1]:
        raise ValueError(
            f"masks must be [N, {-(-logits.shape[1] // 32)}+] int32, got {list(masks.shape)} {masks.dtype}"
        )
    if rows.dtype != torch.int32 or rows.shape != masks.shape[:1]:
        raise ValueError(f"rows must be [{masks.shape[0]}] int32, got {list(rows.shape)} {rows.dtype}")
    if runs_triton(logits):
        triton.mask_tokens(logits, rows, masks)
        return
    if rows.is_cpu and rows.numel() and not (int(rows.min()) >= 0 and int(rows.max()) < logits.shape[0]):
        raise ValueError(f"rows must be from 0 to {logits.shape[0] - 1}, got {rows.tolist()[:8]}")
    if runs_native(logits):
        cpu.mask_tokens(logits, rows, masks)
    else:
        reference.mask_tokens(logits, rows, masks)


__all__ = ["mask_tokens"]
