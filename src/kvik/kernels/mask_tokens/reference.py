"""Masks of tokens in plain torch. Runs on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_tokens(logits: Tensor, rows: Tensor, masks: Tensor) -> None:
    """See `kvik.kernels.mask_tokens.mask_tokens`."""
    shifts = torch.arange(32, device=masks.device, dtype=torch.int32)
    bits = (masks[:, :, None] >> shifts & 1).flatten(1)[:, : logits.shape[1]]
    where = rows.long()
    logits[where] = logits[where].masked_fill_(bits == 0, -torch.inf)
