"""Numbers added to single logits, in place: biases, and -inf for tokens that are ruled out."""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.lazy import LazyModule
from kvik.kernels.logit_edits import reference
from kvik.kernels.runtime import runs_triton

triton = LazyModule(f"{__name__}.triton")


def edit_logits(logits: Tensor, rows: Tensor, starts: Tensor, token_ids: Tensor, values: Tensor) -> None:
    """Add values[m] to logits[rows[n], token_ids[m]] for each m of [starts[n], starts[n + 1]); -inf replaces what is
    there, NaN included.

    logits [R, V] fp32, contiguous; rows [N] int32, each at most once; starts [N + 1] int32, ascending; token_ids [M]
    int32, within the vocabulary, each at most once in a row; values [M] fp32. Raises ValueError for a wrong shape or
    dtype. On a GPU nothing is waited for.
    """
    if logits.dim() != 2 or logits.dtype != torch.float32 or not logits.is_contiguous():
        raise ValueError(f"logits must be [R, V] float32 and contiguous, got {list(logits.shape)} {logits.dtype}")
    for name, given in (("rows", rows), ("starts", starts), ("token_ids", token_ids)):
        if given.dtype != torch.int32 or given.dim() != 1:
            raise ValueError(f"{name} must be one-dimensional int32, got {list(given.shape)} {given.dtype}")
    if starts.shape[0] != rows.shape[0] + 1:
        raise ValueError(f"starts must be [{rows.shape[0] + 1}], one more than the rows, got {list(starts.shape)}")
    if values.dtype != torch.float32 or values.shape != token_ids.shape:
        raise ValueError(f"values must be {list(token_ids.shape)} float32, got {list(values.shape)} {values.dtype}")
    if runs_triton(logits):
        triton.edit_logits(logits, rows, starts, token_ids, values)
    else:
        reference.edit_logits(logits, rows, starts, token_ids, values)


__all__ = ["edit_logits"]
