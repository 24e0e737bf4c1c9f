"""Penalties on tokens that a request has already: of its prompt and answer, or of its answer, by how often.

What a request has is a row of counts beside the vocabulary, on the device that computes, so that a token can be counted
where it was chosen: 0 for a token that is not there, else twice the times that the answer has it, plus 1 if the prompt
has it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.lazy import LazyModule
from kvik.kernels.penalties import reference
from kvik.kernels.runtime import runs_triton

triton = LazyModule(f"{__name__}.triton")

COUNT_ONE = 2
"""What a token of the answer adds."""
IN_PROMPT = 1
"""What a token of the prompt has besides."""


def penalize(
    logits: Tensor,
    rows: Tensor,
    slots: Tensor,
    counts: Tensor,
    repetition: Tensor,
    frequency: Tensor,
    presence: Tensor,
) -> None:
    """Lower the logits of tokens that logits[rows[n]]'s request, with its tokens in counts[slots[n]], has; in place.

    A logit x of a token of prompt or answer becomes x / repetition where x > 0, else x * repetition (Keskar et al.,
    2019, section 4.1); then it loses frequency times the count in the answer, and presence if that is not 0.

    logits [R, V] fp32, contiguous; rows and slots [N] int32, each row at most once; counts [S, V] int32; the penalties
    [N] fp32. Raises ValueError for a wrong shape or dtype. On a GPU nothing is waited for.
    """
    _check(logits, torch.float32, "logits")
    _check_counts(counts, logits.shape[1])
    for name, given in (("rows", rows), ("slots", slots)):
        _check_column(name, given, len(rows), torch.int32)
    for name, given in (("repetition", repetition), ("frequency", frequency), ("presence", presence)):
        _check_column(name, given, len(rows), torch.float32)
    op = triton if runs_triton(logits) else reference
    op.penalize(logits, rows, slots, counts, repetition, frequency, presence)


def count_tokens(counts: Tensor, slots: Tensor, rows: Tensor, token_ids: Tensor) -> None:
    """Count token_ids[rows[n]] into counts[slots[n]] as one more token of that answer, in place; -1 is none.

    counts [S, V] int32; slots, each at most once, and rows [N] int32; token_ids [R] int64. Raises ValueError for a
    wrong shape or dtype. On a GPU nothing is waited for.
    """
    _check_counts(counts, None)
    for name, given in (("slots", slots), ("rows", rows)):
        _check_column(name, given, len(slots), torch.int32)
    _check_column("token_ids", token_ids, len(token_ids), torch.int64)
    op = triton if runs_triton(counts) else reference
    op.count_tokens(counts, slots, rows, token_ids)


def _check(given: Tensor, dtype: torch.dtype, name: str) -> None:
    if given.dim() != 2 or given.dtype != dtype or not given.is_contiguous():
        raise ValueError(f"{name} must be 2-dimensional {dtype} and contiguous, got {list(given.shape)} {given.dtype}")


def _check_counts(counts: Tensor, vocab_size: int | None) -> None:
    _check(counts, torch.int32, "counts")
    if vocab_size is not None and counts.shape[1] != vocab_size:
        raise ValueError(f"counts must be [S, {vocab_size}], as wide as the logits, got {list(counts.shape)}")


def _check_column(name: str, given: Tensor, length: int, dtype: torch.dtype) -> None:
    if given.shape != (length,) or given.dtype != dtype:
        raise ValueError(f"{name} must be [{length}] {dtype}, got {list(given.shape)} {given.dtype}")


__all__ = ["COUNT_ONE", "IN_PROMPT", "count_tokens", "penalize"]
