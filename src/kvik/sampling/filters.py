"""Logits as the draw sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.sample import kept_tokens


def after_filters(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """Logits [R, V] over temperature [R], -inf where min-p, top-k or top-p rules a token out; greedy rows unchanged."""
    kept = kept_tokens(logits, temperature, top_k, top_p, min_p)
    divisor = torch.where(temperature > 0, temperature, 1.0)
    return (logits / divisor[:, None]).masked_fill(~kept, -torch.inf)
