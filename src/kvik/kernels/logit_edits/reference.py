"""Edits of logits in plain torch. Runs on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def edit_logits(logits: Tensor, rows: Tensor, starts: Tensor, token_ids: Tensor, values: Tensor) -> None:
    """See `kvik.kernels.logit_edits.edit_logits`."""
    where = rows.long().repeat_interleave(starts.diff().long())
    which = token_ids.long()
    logits[where, which] = torch.where(values == -torch.inf, values, logits[where, which] + values)
