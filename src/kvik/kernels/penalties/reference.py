"""Penalties and their counts in plain torch. Runs on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def penalize(
    logits: Tensor,
    rows: Tensor,
    slots: Tensor,
    counts: Tensor,
    repetition: Tensor,
    frequency: Tensor,
    presence: Tensor,
) -> None:
    """See `kvik.kernels.penalties.penalize`."""
    before, held = logits[rows.long()], counts[slots.long()]
    num_times = held >> 1
    repetition = repetition[:, None]
    values = torch.where(before > 0, before / repetition, before * repetition)
    values -= frequency[:, None] * num_times
    values -= presence[:, None] * (num_times > 0)
    logits[rows.long()] = torch.where(held > 0, values, before)


def count_tokens(counts: Tensor, slots: Tensor, rows: Tensor, token_ids: Tensor) -> None:
    """See `kvik.kernels.penalties.count_tokens`."""
    chosen = token_ids[rows.long()]
    counts[slots.long(), chosen.clamp(min=0)] += 2 * (chosen >= 0).int()
