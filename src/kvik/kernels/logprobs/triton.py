"""top_logprobs and token_logprobs in Triton: each stretch of a row is read once, and nothing is sorted.

A program per stretch takes its maximum, its sum of exponentials, how many of its tokens are better than each given one,
and its k best as whole numbers that order as (logit, then lowest id) does. A program per row puts these together: its
best k are what is left of merging lists that are in order. A stretch's length does not depend on the rows, so neither
does the order of any sum.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kvik.kernels.launch import launch
from kvik.kernels.logprobs import reference

MOST_WITHOUT_SORT = 256
"""Taking the best one by one is no longer faster for more than so many."""
_NONE = tl.constexpr(-(1 << 63))


@triton.jit
def _order_of(bits):
    """Bits of floats <-> whole numbers in the same order."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit(do_not_specialize=["num_given", "k"])
def _survey(
    logits, given, maxima, sums, num_better, best, row_stride, size, num_given, k, num_stretches, BLOCK: tl.constexpr
):  # fmt: skip
    index, stretch = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row = logits + index * row_stride
    place = stretch * BLOCK + tl.arange(0, BLOCK)
    is_there = place < size
    values = tl.load(row + place, mask=is_there, other=-float("inf"))
    at = index * num_stretches + stretch
    largest = tl.max(values, 0)
    shift = tl.where(largest == -float("inf"), 0.0, largest)
    tl.store(maxima + at, largest)
    tl.store(sums + at, tl.sum(tl.exp(values - shift), 0))
    for j in range(num_given):
        token = tl.load(given + index * num_given + j)
        value = tl.load(row + token)
        is_better = (values > value) | ((values == value) & (place < token))
        tl.store(num_better + at * num_given + j, tl.sum(is_better.to(tl.int32), 0))
    bits = tl.where(values == 0.0, 0.0, values).to(tl.int32, bitcast=True)  # there are two zeros
    keys = (_order_of(bits).to(tl.int64) << 32) | (0x7FFFFFFF - place).to(tl.int64)
    keys = tl.where(is_there, keys, _NONE)
    for j in range(k):
        key = tl.max(keys, 0)
        tl.store(best + at * k + j, key)
        keys = tl.where(keys == key, _NONE, keys)


@triton.jit(do_not_specialize=["num_given", "k"])
def _put_together(
    logits, given, maxima, sums, num_better, best, ids, values, ranks, row_stride, num_given, k, num_stretches,
    NORMALIZE: tl.constexpr, STRETCHES: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0).to(tl.int64)
    stretch = tl.arange(0, STRETCHES)
    is_there = stretch < num_stretches
    at = index * num_stretches + stretch
    shift = 0.0
    log_sum = 0.0
    if NORMALIZE:
        largest = tl.load(maxima + at, mask=is_there, other=-float("inf"))
        shift = tl.max(largest, 0)
        log_sum = tl.log(tl.sum(tl.load(sums + at, mask=is_there, other=0.0) * tl.exp(largest - shift), 0))
    out = index * (num_given + k)
    for j in range(num_given):
        token = tl.load(given + index * num_given + j)
        better = tl.load(num_better + at * num_given + j, mask=is_there, other=0)
        tl.store(ids + out + j, token)
        tl.store(values + out + j, tl.load(logits + index * row_stride + token) - shift - log_sum)
        tl.store(ranks + out + j, 1 + tl.sum(better, 0).to(tl.int64))
    num_taken = tl.zeros([STRETCHES], tl.int32)
    heads = tl.load(best + at * k, mask=is_there & (num_taken < k), other=_NONE)
    for j in range(k):
        key = tl.max(heads, 0)
        value = _order_of((key >> 32).to(tl.int32)).to(tl.float32, bitcast=True)
        tl.store(ids + out + num_given + j, 0x7FFFFFFF - (key & 0xFFFFFFFF))
        tl.store(values + out + num_given + j, value - shift - log_sum)
        tl.store(ranks + out + num_given + j, j + 1)
        is_taken = heads == key
        num_taken += is_taken.to(tl.int32)
        following = tl.load(best + at * k + num_taken, mask=is_taken & (num_taken < k), other=_NONE)
        heads = tl.where(is_taken, following, heads)


def top_logprobs(logits: Tensor, chosen: Tensor, k: int, normalize: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See `kvik.kernels.logprobs.top_logprobs`."""
    if k > MOST_WITHOUT_SORT:
        return reference.top_logprobs(logits, chosen, k, normalize)
    return _launch(logits, chosen[:, None], k, normalize)


def token_logprobs(logits: Tensor, token_ids: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """See `kvik.kernels.logprobs.token_logprobs`."""
    _, values, ranks = _launch(logits, token_ids, 0, normalize)
    return values, ranks


def _launch(logits: Tensor, given: Tensor, k: int, normalize: bool) -> tuple[Tensor, Tensor, Tensor]:
    """ids [R, n + k] int64, values fp32 and ranks int64 of the given tokens [R, n], then of the k best."""
    (num_rows, size), num_given = logits.shape, given.shape[1]
    settings = launch("logprobs", size=size)
    num_stretches = triton.cdiv(size, settings["BLOCK"])
    place = logits.device
    ids = torch.empty((num_rows, num_given + k), dtype=torch.int64, device=place)
    values, ranks = torch.empty(ids.shape, dtype=torch.float32, device=place), torch.empty_like(ids)
    if not num_rows:
        return ids, values, ranks
    given = given.contiguous()
    maxima, sums = torch.empty((2, num_rows, -(-num_stretches // 4) * 4), dtype=torch.float32, device=place)
    num_better = torch.empty((num_rows, num_stretches, num_given), dtype=torch.int32, device=place)
    best = torch.empty((num_rows, num_stretches, k), dtype=torch.int64, device=place)
    _survey[num_rows, num_stretches](
        logits, given, maxima, sums, num_better, best, logits.stride(0), size, num_given, k, num_stretches, **settings
    )
    _put_together[(num_rows,)](
        logits, given, maxima, sums, num_better, best, ids, values, ranks, logits.stride(0), num_given, k,
        num_stretches, NORMALIZE=normalize, STRETCHES=triton.next_power_of_2(num_stretches), num_warps=4,
    )  # fmt: skip
    return ids, values, ranks
