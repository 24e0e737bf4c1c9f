"""top_logprobs and token_logprobs by `kvik._native`. Shapes, dtypes and ids were checked by the caller."""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.runtime import native


def top_logprobs(logits: Tensor, chosen: Tensor, k: int, normalize: bool) -> tuple[Tensor, Tensor, Tensor]:
    logits, chosen = logits.contiguous(), chosen.contiguous()
    num_rows, vocab_size = logits.shape
    ids = torch.empty((num_rows, 1 + k), dtype=torch.int64)
    values = torch.empty((num_rows, 1 + k), dtype=torch.float32)
    ranks = torch.empty_like(ids)
    native.top_logprobs(
        ids.data_ptr(), values.data_ptr(), ranks.data_ptr(), logits.data_ptr(), chosen.data_ptr(),
        num_rows, vocab_size, k, normalize,
    )  # fmt: skip
    return ids, values, ranks


def token_logprobs(logits: Tensor, token_ids: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    logits, token_ids = logits.contiguous(), token_ids.contiguous()
    num_rows, vocab_size = logits.shape
    values = torch.empty(token_ids.shape, dtype=torch.float32)
    ranks = torch.empty(token_ids.shape, dtype=torch.int64)
    native.token_logprobs(
        values.data_ptr(), ranks.data_ptr(), logits.data_ptr(), token_ids.data_ptr(),
        num_rows, vocab_size, token_ids.shape[1], normalize,
    )  # fmt: skip
    return values, ranks
