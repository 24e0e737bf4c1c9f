"""Log probabilities and ranks of chosen tokens, in plain torch. Runs on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def top_logprobs(logits: Tensor, chosen: Tensor, k: int, normalize: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See `kvik.kernels.logprobs.top_logprobs`."""
    values, ranks = token_logprobs(logits, chosen[:, None], normalize)
    order = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :k]
    best = _values(logits, normalize).gather(1, order)
    best_ranks = torch.arange(1, k + 1, device=logits.device).expand(logits.shape[0], k)
    return torch.cat([chosen[:, None], order], 1), torch.cat([values, best], 1), torch.cat([ranks, best_ranks], 1)


def token_logprobs(logits: Tensor, token_ids: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """See `kvik.kernels.logprobs.token_logprobs`."""
    ids = torch.arange(logits.shape[1], device=logits.device)
    ranks = torch.empty_like(token_ids)
    for column in range(token_ids.shape[1]):
        chosen = token_ids[:, column, None]
        value = logits.gather(1, chosen)
        better = (logits > value) | ((logits == value) & (ids < chosen))
        ranks[:, column] = 1 + better.sum(dim=1)
    return _values(logits, normalize).gather(1, token_ids), ranks


def _values(logits: Tensor, normalize: bool) -> Tensor:
    return torch.log_softmax(logits, dim=-1) if normalize else logits
