"""embedding in Triton: a program per id and stretch of its row. A row outside the table is zeros: nobody looks."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from kvik.kernels.launch import launch
from kvik.kernels.linear import PackedWeight
from kvik.kernels.linear.block_tiles import columns_of, load_codes, load_high, values_of
from kvik.kernels.linear.gpu_layout import layout_of


@triton.jit
def _scaled(values, scale, SCALED: tl.constexpr, dtype: tl.constexpr):
    """The values, the scale and their product are each rounded to `dtype`."""
    if values.dtype == tl.float64:
        values = values.to(tl.float32)
    if SCALED:
        factor = tl.full(values.shape, scale, tl.float32).to(dtype).to(tl.float32)
        return (values.to(dtype).to(tl.float32) * factor).to(dtype)
    return values.to(dtype)


@triton.jit
def _gather_floats(ids, table, out, table_stride, num_rows, columns, scale, SCALED: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    at = tl.load(ids + row + tl.arange(0, 1)).to(tl.int64)  # [1]: its comparisons are masks, a number's are not
    known = inside & (at >= 0) & (at < num_rows)
    values = tl.load(table + at * table_stride + column, mask=known, other=0.0)
    tl.store(out + row * columns + column, _scaled(values, scale, SCALED, out.dtype.element_ty), mask=inside)


@triton.jit
def _gather_blocks(
    ids, data, halves, out, num_rows, columns, num_codes, row_bytes, scale,
    FORMAT: tl.constexpr, HIGH: tl.constexpr, SMALL: tl.constexpr, HALVES: tl.constexpr, SCALED: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    PARTS: tl.constexpr = 1 if FORMAT == "q8_0" else 2
    W: tl.constexpr = BLOCK // PARTS
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * W
    ids_of_row = tl.load(ids + row + tl.arange(0, 1)).to(tl.int64)
    known = (ids_of_row >= 0) & (ids_of_row < num_rows)
    row_at = ids_of_row * row_bytes
    codes = load_codes(data, row_at, known, at, num_codes, W)
    high = codes
    if FORMAT == "q6_k":
        high = load_high(data, row_at, known, at, num_codes, HIGH, W)
    for part in tl.static_range(PARTS):
        values = values_of(codes, high, data, halves, row_at, known, at, part, columns, FORMAT, SMALL, HALVES, W)
        values = tl.where(known[:, None], values, 0.0)  # a code of 0 may stand for another number
        column = columns_of(at, part, FORMAT, W)[None, :]
        rounded = _scaled(values, scale, SCALED, out.dtype.element_ty)
        tl.store(out + row * columns + column, rounded, mask=column < columns)


def embedding(ids: torch.Tensor, table: torch.Tensor, dtype: torch.dtype, scale: float) -> torch.Tensor:
    """table [V, H] of floats, contiguous in its rows -> [T, H] in `dtype`."""
    num_rows, columns = table.shape
    if table.stride(1) != 1:
        table = table.contiguous()
    out = torch.empty((ids.shape[0], columns), dtype=dtype, device=ids.device)
    if out.numel():
        settings = launch("embedding", columns=columns)
        _gather_floats[(ids.shape[0], triton.cdiv(columns, settings["BLOCK"]))](
            ids.contiguous(), table, out, table.stride(0), num_rows, columns, scale,
            SCALED=scale != 1.0, **settings,
        )  # fmt: skip
    return out


def embedding_of_blocks(ids: torch.Tensor, table: PackedWeight, dtype: torch.dtype, scale: float) -> torch.Tensor:
    """The same of a quantised table in the layout of `gpu_layout`."""
    out = torch.empty((ids.shape[0], table.k), dtype=dtype, device=ids.device)
    if out.numel():
        settings, layout = launch("embedding", columns=table.k), layout_of(table.format, table.k)
        _gather_blocks[(ids.shape[0], triton.cdiv(table.k, settings["BLOCK"]))](
            ids.contiguous(), table.data, table.data.view(torch.float16), out, table.n, table.k, layout.high,
            layout.row_bytes, scale, FORMAT=table.format, HIGH=layout.high, SMALL=layout.small,
            HALVES=layout.halves, SCALED=scale != 1.0, **settings,
        )  # fmt: skip
    return out
