"""linear of a quantised weight in Triton: codes are widened in registers to the inputs' dtype, sums are fp32.

A program has BLOCK_N outputs of BLOCK_M rows. The weight is the left operand, which tensor cores take from registers:
few rows then pad the narrow side. Where that makes few programs, K is split among several, whose sums a second kernel
adds in order: nothing depends on which came first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from kvik.kernels.launch import launch
from kvik.kernels.linear.block_tiles import columns_of, load_codes, load_high, values_of
from kvik.kernels.linear.gpu_layout import layout_of

if TYPE_CHECKING:
    from kvik.kernels.linear.packed_weight import PackedWeight


@triton.jit(do_not_specialize=["num_rows", "split_stride", "num_steps", "steps_per_split"])
def _quantized_linear(
    x, data, halves, bias, out, x_stride, out_stride, split_stride, num_rows, n, k, num_codes, row_bytes, num_steps,
    steps_per_split, FORMAT: tl.constexpr, HIGH: tl.constexpr, SMALL: tl.constexpr, HALVES: tl.constexpr,
    HAS_BIAS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    PARTS: tl.constexpr = 1 if FORMAT == "q8_0" else 2
    W: tl.constexpr = BLOCK_K // PARTS
    dtype = x.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(2)
    row_inside, column_inside = row < num_rows, column < n
    weight_at = column * row_bytes
    total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for step in range(split * steps_per_split, tl.minimum((split + 1) * steps_per_split, num_steps)):
        at = step * W
        codes = load_codes(data, weight_at, column_inside, at, num_codes, W)
        high = codes
        if FORMAT == "q6_k":
            high = load_high(data, weight_at, column_inside, at, num_codes, HIGH, W)
        for part in tl.static_range(PARTS):
            values = values_of(
                codes, high, data, halves, weight_at, column_inside, at, part, k, FORMAT, SMALL, HALVES, W
            )
            element = columns_of(at, part, FORMAT, W)
            inputs = tl.load(
                x + row[None, :] * x_stride + element[:, None],
                mask=row_inside[None, :] & (element < k)[:, None], other=0.0,
            )  # fmt: skip
            total = tl.dot(values.to(dtype), inputs, total, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias + column, mask=column_inside, other=0.0).to(tl.float32)[:, None]
    place = out + split * split_stride + row[None, :] * out_stride + column[:, None]
    tl.store(place, total.to(out.dtype.element_ty), mask=row_inside[None, :] & column_inside[:, None])


@triton.jit(do_not_specialize=["split_stride", "num_splits"])
def _add_splits(sums, bias, out, out_stride, split_stride, n, num_splits, HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr):
    """sums fp32 [splits, T, N] -> out [T, N]."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < n
    total = tl.zeros((BLOCK,), tl.float32)
    for split in range(num_splits):
        total += tl.load(sums + split * split_stride + row * n + column, mask=inside, other=0.0)
    if HAS_BIAS:
        total += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_stride + column, total.to(out.dtype.element_ty), mask=inside)


def linear(out: torch.Tensor, x: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None) -> None:
    """out [T, N] of any float dtype may be columns of a wider tensor."""
    num_rows = x.shape[0]
    if not num_rows:
        return
    x = x if x.stride(1) == 1 else x.contiguous()
    settings = launch("quantized_linear", rows=num_rows)
    num_programs, added = settings.pop("programs"), settings.pop("BLOCK_SUM")
    layout = layout_of(weight.format, weight.k)
    num_steps = triton.cdiv(weight.k, settings["BLOCK_K"])
    tiles = (triton.cdiv(num_rows, settings["BLOCK_M"]), triton.cdiv(weight.n, settings["BLOCK_N"]))
    per_split = triton.cdiv(num_steps, num_splits(tiles[0] * tiles[1], num_steps, num_programs))
    splits = triton.cdiv(num_steps, per_split)
    sums = out if splits == 1 else torch.empty((splits, num_rows, weight.n), dtype=torch.float32, device=x.device)
    with_bias = bias is not None and splits == 1
    _quantized_linear[(*tiles, splits)](
        x, weight.data, weight.data.view(torch.float16), bias if with_bias else x, sums, x.stride(0), sums.stride(-2),
        num_rows * weight.n, num_rows, weight.n, weight.k, layout.high, layout.row_bytes, num_steps, per_split,
        FORMAT=weight.format, HIGH=layout.high, SMALL=layout.small, HALVES=layout.halves, HAS_BIAS=with_bias,
        **settings,
    )  # fmt: skip
    if splits > 1:
        add_splits(out, sums, bias, added)


def add_splits(out: torch.Tensor, sums: torch.Tensor, bias: torch.Tensor | None, block: int) -> None:
    """sums fp32 [splits, T, N] -> out [T, N], `block` columns to a program."""
    splits, num_rows, n = sums.shape
    _add_splits[(num_rows, triton.cdiv(n, block))](
        sums, sums if bias is None else bias, out, out.stride(0), num_rows * n, n, splits,
        HAS_BIAS=bias is not None, BLOCK=block, num_warps=4,
    )  # fmt: skip


def num_splits(num_tiles: int, num_steps: int, num_programs: int) -> int:
    """Into how many stretches K is cut, so that about `num_programs` run: by sizes alone, never by time."""
    return max(1, min(num_steps, num_programs // num_tiles))
