"""sample, arg_max and kept_tokens by `kvik._native`. Shapes and dtypes were checked by the caller."""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.runtime import native


def sample(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seeds: Tensor, positions: Tensor
) -> Tensor:
    logits = logits.contiguous()
    num_rows, vocab_size = logits.shape
    chosen = torch.empty(num_rows, dtype=torch.int64)
    native.sample(
        chosen.data_ptr(), logits.data_ptr(), num_rows, vocab_size, temperature.data_ptr(), top_k.data_ptr(),
        top_p.data_ptr(), min_p.data_ptr(), seeds.data_ptr(), positions.data_ptr(),
    )  # fmt: skip
    return chosen


def arg_max(logits: Tensor) -> Tensor:
    logits = logits.contiguous()
    chosen = torch.empty(logits.shape[0], dtype=torch.int64)
    native.arg_max(chosen.data_ptr(), logits.data_ptr(), *logits.shape)
    return chosen


def kept_tokens(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    logits = logits.contiguous()
    kept = torch.empty(logits.shape, dtype=torch.bool)
    native.kept_tokens(
        kept.data_ptr(), logits.data_ptr(), *logits.shape, temperature.data_ptr(), top_k.data_ptr(), top_p.data_ptr(),
        min_p.data_ptr(),
    )  # fmt: skip
    return kept
