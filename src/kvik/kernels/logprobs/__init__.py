"""Log probabilities at chosen tokens, the best tokens of a row, and ranks (1 is best; ties rank by id)."""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.lazy import LazyModule
from kvik.kernels.logprobs import cpu, reference
from kvik.kernels.runtime import runs_native, runs_triton

triton = LazyModule(f"{__name__}.triton")


def top_logprobs(logits: Tensor, chosen: Tensor, k: int, *, normalize: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Ids [R, 1 + k] int64, log probabilities [R, 1 + k] fp32 and ranks [R, 1 + k] int64 of the chosen token, then of
    the k best, which may hold the chosen one again.

    logits [R, V] fp32; chosen [R] int64; k from 0 to V. Without `normalize` the values are the logits themselves.
    Raises ValueError for a wrong shape, k or token id; on a GPU, where nothing is waited for, not for an id.
    """
    _check(logits, chosen, k)
    if runs_triton(logits):
        return triton.top_logprobs(logits, chosen, k, normalize)
    _check_ids(chosen, logits.shape[1])
    if runs_native(logits):
        return cpu.top_logprobs(logits, chosen, k, normalize)
    return reference.top_logprobs(logits, chosen, k, normalize)


def token_logprobs(logits: Tensor, token_ids: Tensor, *, normalize: bool = True) -> tuple[Tensor, Tensor]:
    """Log probabilities [R, n] fp32 and ranks [R, n] int64 of given tokens.

    logits [R, V] fp32; token_ids [R, n] int64. Without `normalize` the values are the logits themselves. Raises
    ValueError for a wrong shape or token id; on a GPU, where nothing is waited for, not for an id.
    """
    _check(logits, token_ids, 0)
    if runs_triton(logits):
        return triton.token_logprobs(logits, token_ids, normalize)
    _check_ids(token_ids, logits.shape[1])
    if runs_native(logits):
        return cpu.token_logprobs(logits, token_ids, normalize)
    return reference.token_logprobs(logits, token_ids, normalize)


def _check(logits: Tensor, token_ids: Tensor, k: int) -> None:
    if logits.dim() != 2 or logits.dtype != torch.float32:
        raise ValueError(f"logits must be [R, V] float32, got {list(logits.shape)} {logits.dtype}")
    if token_ids.shape[0] != logits.shape[0] or token_ids.dtype is not torch.int64:
        raise ValueError(
            f"token ids must be int64 with {logits.shape[0]} rows like the logits, got {token_ids.shape[0]} rows of "
            f"{token_ids.dtype}"
        )
    if not 0 <= k <= logits.shape[1]:
        raise ValueError(f"k must be from 0 to the vocabulary's {logits.shape[1]}, got {k}")


def _check_ids(token_ids: Tensor, vocab_size: int) -> None:
    if token_ids.numel() and not (int(token_ids.min()) >= 0 and int(token_ids.max()) < vocab_size):
        raise ValueError(f"token ids must be from 0 to {vocab_size - 1}, got {token_ids.flatten().tolist()[:8]}")


__all__ = ["token_logprobs", "top_logprobs"]
