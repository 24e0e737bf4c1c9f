"""sample, arg_max and kept_tokens in Triton: a program per row reads it a fixed number of times and sorts nothing.

As the reference has it, weights are whole numbers, so sums are exact in any order. With d = -z >= 0 as bits, which
order as the numbers do, top-k's border is the largest bit pattern with fewer than k tokens below it, top-p's the
largest with less than its share of weight below; each is found two bits per pass, by counting below three patterns at
once. Tokens that lie at the border itself are kept in the order of their ids.

exp is the device's: its last bit, and so a weight's, may differ from another device's.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kvik.kernels.launch import launch
from kvik.kernels.sample.reference import GREEDY_BELOW, WEIGHT_ONE

_GREEDY_BELOW = tl.constexpr(GREEDY_BELOW)
_WEIGHT_ONE = tl.constexpr(WEIGHT_ONE)
_NO_BORDER = tl.constexpr(0x7FFFFFFF)
_NUM_PASSES = tl.constexpr(16)
"""Of two bits each, for patterns of 31 bits."""


@triton.jit
def _best(row, size, BLOCK: tl.constexpr):
    """The largest value, its first place, and whether the row is sound: no NaN, no +inf, and not -inf throughout."""
    offset = tl.arange(0, BLOCK)
    best = tl.full([BLOCK], -float("inf"), tl.float32)
    places = tl.zeros([BLOCK], tl.int32)
    faults = tl.zeros([BLOCK], tl.int32)
    for first in range(0, size, BLOCK):
        place = first + offset
        values = tl.load(row + place, mask=place < size, other=-float("inf"))
        faults += ((values != values) | (values == float("inf"))).to(tl.int32)
        places = tl.where(values > best, place, places)
        best = tl.where(values > best, values, best)
    largest = tl.max(best, 0)
    place = tl.min(tl.where(best == largest, places, size), 0)
    is_sound = (tl.sum(faults, 0) == 0) & (largest > -float("inf"))
    return largest, place, is_sound


@triton.jit
def _weigh(row, place, size, largest, inverse_temperature, least_z):
    """The bits of -z, the whole weights, and which tokens min-p leaves."""
    values = tl.load(row + place, mask=place < size, other=-float("inf"))
    z = (values - largest) * inverse_temperature
    distance = z.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    weights = (tl.exp(z) * _WEIGHT_ONE).to(tl.int64)
    return distance, weights, (weights > 0) & (z >= least_z)


@triton.jit
def _below(row, size, largest, inverse_temperature, least_z, first, second, third, COUNT: tl.constexpr,
           BLOCK: tl.constexpr):  # fmt: skip
    """How many tokens lie below each of three borders, or how much weight."""
    offset = tl.arange(0, BLOCK)
    a = tl.zeros([BLOCK], tl.int64)
    b = tl.zeros([BLOCK], tl.int64)
    c = tl.zeros([BLOCK], tl.int64)
    for start in range(0, size, BLOCK):
        distance, weights, is_left = _weigh(row, start + offset, size, largest, inverse_temperature, least_z)
        if COUNT:
            amount = is_left.to(tl.int64)
        else:
            amount = tl.where(is_left, weights, 0)
        a += tl.where(distance < first, amount, 0)
        b += tl.where(distance < second, amount, 0)
        c += tl.where(distance < third, amount, 0)
    return tl.sum(a, 0), tl.sum(b, 0), tl.sum(c, 0)


@triton.jit
def _border(row, size, largest, inverse_temperature, least_z, limit, highest, COUNT: tl.constexpr,
            BLOCK: tl.constexpr):  # fmt: skip
    """The largest border up to `highest` below which lies less than `limit`, and how much that is."""
    border = 0
    below = tl.full([], 0, tl.int64)
    for step in range(_NUM_PASSES):
        bit = 30 - 2 * step
        low = 1 << bit
        high = tl.where(step == 0, low, low * 2)  # the top bit has none above it
        first, second, third = border | low, border | high, border | high | low
        a, b, c = _below(row, size, largest, inverse_temperature, least_z, first, second, third, COUNT, BLOCK)
        takes_a = (a < limit) & (first <= highest)
        takes_b = (b < limit) & (second <= highest)
        takes_c = (c < limit) & (third <= highest)
        below = tl.where(takes_c, c, tl.where(takes_b, b, tl.where(takes_a, a, below)))
        border = tl.where(takes_c, third, tl.where(takes_b, second, tl.where(takes_a, first, border)))
    return border, below


@triton.jit
def _weight_at(border):
    return (tl.exp(-border.to(tl.float32, bitcast=True)) * _WEIGHT_ONE).to(tl.int64)


@triton.jit
def _kept(distance, is_left, border, num_ties, ties_before):
    """Tokens below the border, and the first `num_ties` at it; how many of those there have been by now."""
    is_tie = is_left & (distance == border)
    rank = ties_before + tl.cumsum(is_tie.to(tl.int64), 0)
    kept = is_left & ((distance < border) | (is_tie & (rank <= num_ties)))
    return kept, ties_before + tl.sum(is_tie.to(tl.int64), 0)


@triton.jit
def _cut(row, size, largest, inverse, least, k, share, BLOCK: tl.constexpr):
    """The border of what top-k and then top-p leave, and how many tokens at the border itself."""
    border = tl.full([], _NO_BORDER, tl.int32)
    num_ties = tl.full([], 1 << 40, tl.int64)
    if k > 0:
        border, below = _border(row, size, largest, inverse, least, k, _NO_BORDER, True, BLOCK)
        num_ties = k - below
    if share < 1.0:
        left = _total(row, size, largest, inverse, least, border, num_ties, BLOCK)
        limit = tl.ceil(left.to(tl.float64) * share.to(tl.float64)).to(tl.int64)
        edge, below = _border(row, size, largest, inverse, least, limit, border, False, BLOCK)
        weight = tl.maximum(_weight_at(edge), 1)
        ties = (limit - below + weight - 1) // weight
        num_ties = tl.where(edge == border, tl.minimum(ties, num_ties), ties)
        border = edge
    return border, num_ties


@triton.jit
def _least_z(min_p):
    """The least z that min-p leaves, as an fp32 number closest to the exact logarithm."""
    return tl.where(min_p > 0, tl.log(min_p.to(tl.float64)).to(tl.float32), -float("inf"))


@triton.jit
def _sample(logits, temperature, top_k, top_p, min_p, seeds, positions, out, row_stride, size, BLOCK: tl.constexpr):
    index = tl.program_id(0)
    row = logits + index.to(tl.int64) * row_stride
    largest, chosen, is_sound = _best(row, size, BLOCK)
    warmth = tl.load(temperature + index)
    if is_sound & (warmth >= _GREEDY_BELOW):
        inverse = 1.0 / warmth
        least = _least_z(tl.load(min_p + index))
        k, share = tl.load(top_k + index).to(tl.int64), tl.load(top_p + index)
        border, num_ties = _cut(row, size, largest, inverse, least, k, share, BLOCK)
        total = _total(row, size, largest, inverse, least, border, num_ties, BLOCK)
        position = tl.load(positions + index)
        zero = tl.full([], 0, tl.uint32)
        low_position = (position & 0xFFFFFFFF).to(tl.uint32)
        high_position = ((position >> 32) & 0xFFFFFFFF).to(tl.uint32)
        low, high, _, _ = tl.philox(tl.load(seeds + index), low_position, high_position, zero, zero)
        word = (high.to(tl.uint64) << 32) | low.to(tl.uint64)
        target = tl.umulhi(word, total.to(tl.uint64)).to(tl.int64)
        chosen = _drawn(row, size, largest, inverse, least, border, num_ties, target, BLOCK)
    tl.store(out + index, tl.where(is_sound, chosen, -1).to(tl.int64))


@triton.jit
def _kept_tokens(logits, temperature, top_k, top_p, min_p, out, row_stride, size, BLOCK: tl.constexpr):
    index = tl.program_id(0)
    row = logits + index.to(tl.int64) * row_stride
    offset = tl.arange(0, BLOCK)
    largest, _place, is_sound = _best(row, size, BLOCK)
    warmth = tl.load(temperature + index)
    is_drawn = is_sound & (warmth >= _GREEDY_BELOW)
    inverse = 1.0 / tl.where(is_drawn, warmth, 1.0)
    least = _least_z(tl.load(min_p + index))
    border = tl.full([], _NO_BORDER, tl.int32)
    num_ties = tl.full([], 1 << 40, tl.int64)
    if is_drawn:
        k, share = tl.load(top_k + index).to(tl.int64), tl.load(top_p + index)
        border, num_ties = _cut(row, size, largest, inverse, least, k, share, BLOCK)
    ties_before = tl.full([], 0, tl.int64)
    for start in range(0, size, BLOCK):
        places = start + offset
        distance, _weights, is_left = _weigh(row, places, size, largest, inverse, least)
        kept, ties_before = _kept(distance, is_left, border, num_ties, ties_before)
        kept = tl.where(is_drawn, kept, is_sound)
        tl.store(out + index.to(tl.int64) * size + places, kept.to(tl.int8), mask=places < size)


@triton.jit
def _total(row, size, largest, inverse, least, border, num_ties, BLOCK: tl.constexpr):
    """The weight that is kept."""
    offset = tl.arange(0, BLOCK)
    sums = tl.zeros([BLOCK], tl.int64)
    ties_before = tl.full([], 0, tl.int64)
    for start in range(0, size, BLOCK):
        distance, weights, is_left = _weigh(row, start + offset, size, largest, inverse, least)
        kept, ties_before = _kept(distance, is_left, border, num_ties, ties_before)
        sums += tl.where(kept, weights, 0)
    return tl.sum(sums, 0)


@triton.jit
def _drawn(row, size, largest, inverse, least, border, num_ties, target, BLOCK: tl.constexpr):
    """The first token whose cumulative weight is above the target."""
    offset = tl.arange(0, BLOCK)
    chosen = tl.full([], 0, tl.int32) + size
    before = tl.full([], 0, tl.int64)
    ties_before = tl.full([], 0, tl.int64)
    for start in range(0, size, BLOCK):
        place = start + offset
        distance, weights, is_left = _weigh(row, place, size, largest, inverse, least)
        kept, ties_before = _kept(distance, is_left, border, num_ties, ties_before)
        left = tl.where(kept, weights, 0)
        cumulative = before + tl.cumsum(left, 0)
        chosen = tl.minimum(chosen, tl.min(tl.where(cumulative > target, place, size), 0))
        before += tl.sum(left, 0)
    return chosen


@triton.jit
def _arg_max(logits, out, row_stride, size, BLOCK: tl.constexpr):
    index = tl.program_id(0)
    _, place, is_sound = _best(logits + index.to(tl.int64) * row_stride, size, BLOCK)
    tl.store(out + index, tl.where(is_sound, place, -1).to(tl.int64))


def sample(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seeds: Tensor, positions: Tensor
) -> Tensor:
    """See `kvik.kernels.sample.sample`."""
    num_rows, size = logits.shape
    out = torch.empty(num_rows, dtype=torch.int64, device=logits.device)
    if num_rows:
        _sample[(num_rows,)](
            logits, temperature, top_k, top_p, min_p, seeds, positions, out, logits.stride(0), size,
            **launch("sample", size=size),
        )  # fmt: skip
    return out


def arg_max(logits: Tensor) -> Tensor:
    """See `kvik.kernels.sample.arg_max`."""
    num_rows, size = logits.shape
    out = torch.empty(num_rows, dtype=torch.int64, device=logits.device)
    if num_rows:
        _arg_max[(num_rows,)](logits, out, logits.stride(0), size, **launch("arg_max", size=size))
    return out


def kept_tokens(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """See `kvik.kernels.sample.kept_tokens`."""
    num_rows, size = logits.shape
    out = torch.empty((num_rows, size), dtype=torch.int8, device=logits.device)
    if num_rows:
        _kept_tokens[(num_rows,)](
            logits, temperature, top_k, top_p, min_p, out, logits.stride(0), size, **launch("sample", size=size)
        )
    return out.view(torch.bool)
