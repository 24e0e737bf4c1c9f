"""mask_tokens in Triton: a program per mask and stretch of the vocabulary. Only what is ruled out is written."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kvik.kernels.launch import launch


@triton.jit(do_not_specialize=["num_words"])
def _mask_tokens(logits, rows, masks, size, num_words, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_there = place < size
    words = tl.load(masks + index * num_words + place // 32, mask=is_there, other=0)
    is_ruled_out = ((words >> (place % 32)) & 1) == 0
    row = logits + tl.load(rows + index).to(tl.int64) * size
    tl.store(row + place, -float("inf"), mask=is_there & is_ruled_out)


def mask_tokens(logits: Tensor, rows: Tensor, masks: Tensor) -> None:
    """See `kvik.kernels.mask_tokens.mask_tokens`."""
    size, (num_masks, num_words) = logits.shape[1], masks.shape
    if num_masks:
        settings = launch("mask_tokens", size=size)
        grid = num_masks, triton.cdiv(size, settings["BLOCK"])
        _mask_tokens[grid](logits, rows, masks.contiguous(), size, num_words, **settings)
