"""Triton: tiles of a quantised weight in the layout of `gpu_layout`, from memory to fp32. Knows no product.

A tile is [R rows, W codes]; where codes are nibbles it holds 2 W elements, of which `part` 0 is the first 32 of each 64
and `part` 1 the others. `at` is the place of the tile in the row's codes, a multiple of W.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_codes(data, row_at, row_inside, at, num_codes, W: tl.constexpr):
    """Bytes [R, W]; `row_at` [R] int64: where each row begins."""
    place = at + tl.arange(0, W)
    return tl.load(data + row_at[:, None] + place[None, :], mask=row_inside[:, None] & (place < num_codes)[None, :],
                   other=0)  # fmt: skip


@triton.jit
def load_high(data, row_at, row_inside, at, num_codes, HIGH: tl.constexpr, W: tl.constexpr):
    """q6_k's upper bits beside the codes [R, W]: those of both parts in each byte."""
    lane = tl.arange(0, W)
    place = at // 2 + lane // 32 * 16 + lane % 16
    return tl.load(data + HIGH + row_at[:, None] + place[None, :],
                   mask=row_inside[:, None] & (at + lane < num_codes)[None, :], other=0)  # fmt: skip


@triton.jit
def columns_of(at, part, FORMAT: tl.constexpr, W: tl.constexpr):
    """The elements [W] of the row that a part of a tile holds."""
    place = at + tl.arange(0, W)
    return place if FORMAT == "q8_0" else place // 32 * 64 + part * 32 + place % 32


@triton.jit
def spread(values, SIZE: tl.constexpr):
    """[R, G] -> [R, G * SIZE], each value SIZE times."""
    R: tl.constexpr = values.shape[0]
    G: tl.constexpr = values.shape[1]
    return tl.reshape(tl.broadcast_to(values[:, :, None], (R, G, SIZE)), (R, G * SIZE))


@triton.jit
def load_half(halves, row_at, row_inside, place, inside):
    """fp16 numbers [R, G] as fp32; `place` [G] counts halves of the row."""
    mask = row_inside[:, None] & inside[None, :]
    return tl.load(halves + (row_at // 2)[:, None] + place[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def values_of(
    codes, high, data, halves, row_at, row_inside, at, part, k,
    FORMAT: tl.constexpr, SMALL: tl.constexpr, HALVES: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """The elements of one part of a tile, fp32 [R, W]. Beyond K they are zeros.

    `halves`: the data as fp16 numbers; SMALL and HALVES: where these parts begin in a row, bytes.
    """
    if FORMAT == "q6_k":
        group = tl.arange(0, W // 16)
        element = at * 2 + group // 2 * 64 + part * 32 + group % 2 * 16
        inside = element < k
        mask = row_inside[:, None] & inside[None, :]
        small = tl.load(data + SMALL + row_at[:, None] + (element // 16)[None, :], mask=mask, other=0)
        small = small.to(tl.int8, bitcast=True).to(tl.float32)
        scale = load_half(halves + HALVES // 2, row_at, row_inside, element // 256, inside) * small
        upper = (high >> (tl.arange(0, W) % 32 // 16 * 2 + part * 4).to(tl.uint8)[None, :]) & 3
        code = (codes >> (part * 4)) & 15 | upper << 4
        return spread(scale, 16) * (code.to(tl.float32) - 32.0)
    group = tl.arange(0, W // 32)
    if FORMAT == "q8_0":
        element = at + group * 32
        inside = element < k
        scale = load_half(halves + HALVES // 2, row_at, row_inside, element // 32, inside)
        return spread(scale, 32) * codes.to(tl.int8, bitcast=True).to(tl.float32)
    element = at * 2 + group * 64 + part * 32
    inside = element < k
    code = ((codes >> (part * 4)) & 15).to(tl.float32)
    if FORMAT == "q4_0":
        scale = load_half(halves + HALVES // 2, row_at, row_inside, element // 32, inside)
        return spread(scale, 32) * (code - 8.0)
    if FORMAT == "q4_1":
        scale = load_half(halves + HALVES // 2, row_at, row_inside, element // 16, inside)
        offset = load_half(halves + HALVES // 2, row_at, row_inside, element // 16 + 1, inside)
    else:
        mask = row_inside[:, None] & inside[None, :]
        small = data + SMALL + row_at[:, None] + (element // 16)[None, :]
        first = load_half(halves + HALVES // 2, row_at, row_inside, element // 256 * 2, inside)
        second = load_half(halves + HALVES // 2, row_at, row_inside, element // 256 * 2 + 1, inside)
        scale = first * tl.load(small, mask=mask, other=0).to(tl.float32)
        offset = -second * tl.load(small + 1, mask=mask, other=0).to(tl.float32)
    return spread(scale, 32) * code + spread(offset, 32)
