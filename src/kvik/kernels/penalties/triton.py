"""penalize in Triton: a program per row and stretch of the vocabulary; count_tokens: one per counted token.

Each operation is rounded as the reference rounds it: no multiplication is fused with what follows.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kvik.kernels.launch import launch


@triton.jit
def _penalize(logits, rows, slots, counts, repetition, frequency, presence, size, BLOCK: tl.constexpr):
    index = tl.program_id(0)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_there = place < size
    row = logits + tl.load(rows + index).to(tl.int64) * size
    held = tl.load(counts + tl.load(slots + index).to(tl.int64) * size + place, mask=is_there, other=0)
    is_held = held > 0
    value = tl.load(row + place, mask=is_held, other=0.0)
    factor = tl.load(repetition + index)
    value = tl.where(value > 0, tl.div_rn(value, factor), value * factor)
    num_times = (held >> 1).to(tl.float32)
    value -= tl.load(frequency + index) * num_times
    value -= tl.load(presence + index) * (num_times > 0).to(tl.float32)
    tl.store(row + place, value, mask=is_held)


@triton.jit
def _count_tokens(counts, slots, rows, token_ids, size):
    index = tl.program_id(0)
    chosen = tl.load(token_ids + tl.load(rows + index))
    if chosen >= 0:
        place = counts + tl.load(slots + index).to(tl.int64) * size + chosen
        tl.store(place, tl.load(place) + 2)


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
    size = logits.shape[1]
    if len(rows):
        settings = launch("penalties", size=size)
        _penalize[len(rows), triton.cdiv(size, settings["BLOCK"])](
            logits, rows, slots, counts, repetition, frequency, presence, size, **settings, enable_fp_fusion=False
        )


def count_tokens(counts: Tensor, slots: Tensor, rows: Tensor, token_ids: Tensor) -> None:
    """See `kvik.kernels.penalties.count_tokens`."""
    if len(slots):
        _count_tokens[(len(slots),)](counts, slots, rows, token_ids, counts.shape[1], num_warps=1)
