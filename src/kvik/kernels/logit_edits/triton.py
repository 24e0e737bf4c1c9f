"""edit_logits in Triton: a program per row, which goes through that row's edits."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kvik.kernels.launch import launch


@triton.jit
def _edit_logits(logits, rows, starts, token_ids, values, size, BLOCK: tl.constexpr):
    index = tl.program_id(0)
    row = logits + tl.load(rows + index).to(tl.int64) * size
    end = tl.load(starts + index + 1)
    for first in range(tl.load(starts + index), end, BLOCK):
        edit = first + tl.arange(0, BLOCK)
        is_there = edit < end
        place = row + tl.load(token_ids + edit, mask=is_there, other=0)
        value = tl.load(values + edit, mask=is_there, other=0.0)
        logit = tl.load(place, mask=is_there, other=0.0)
        tl.store(place, tl.where(value == -float("inf"), value, logit + value), mask=is_there)


def edit_logits(logits: Tensor, rows: Tensor, starts: Tensor, token_ids: Tensor, values: Tensor) -> None:
    """See `kvik.kernels.logit_edits.edit_logits`."""
    size = logits.shape[1]
    if len(rows):
        _edit_logits[(len(rows),)](
            logits, rows, starts, token_ids, values, size, **launch("logit_edits", size=size)
        )  # fmt: skip
