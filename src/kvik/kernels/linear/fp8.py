"""linear of a weight in 8-bit floats in Triton: e4m3 times e4m3 with fp32 sums, or e4m3 times the inputs as they are.

The first kernel rounds the inputs, the second multiplies; both as `reference.fp8_linear` has it. Tensor cores take e4m3
from sm_89 on. Before, and for weights whose inputs are not to be rounded, codes are widened in registers: their bits,
shifted, are those of a float16 of 1/256 of the value. The weight is the left operand, and K may be split, as in
triton.py. (torch._scaled_mm is left alone: which scales it takes, of whole tensors, rows or groups, depends on the GPU
and on torch's version.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from kvik.kernels import launch
from kvik.kernels.linear.fp8_layout import FP8_FORMATS, num_scales
from kvik.kernels.linear.triton import add_splits, num_splits

if TYPE_CHECKING:
    from kvik.kernels.linear.packed_weight import PackedWeight


@triton.jit
def _rounded(x, scale):
    """x / scale within the ends of e4m3; NaN stays."""
    x = x * tl.div_rn(1.0, scale)
    return tl.where(x > 448.0, 448.0, tl.where(x < -448.0, -448.0, x))


@triton.jit
def _round_inputs(
    x, fixed_scale, codes, scales, x_stride, k, num_groups, GROUP: tl.constexpr, IS_FIXED: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """A program has a row: x [T, K] -> codes e4m3 [T, K], scales fp32 [T, groups], which a fixed scale leaves alone."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    source = x + row * x_stride
    target = codes + row * k
    if IS_FIXED:
        scale = tl.load(fixed_scale + tl.arange(0, 1))
    elif GROUP == 0:
        largest = tl.zeros((BLOCK,), tl.float32)
        for at in range(0, k, BLOCK):
            values = tl.load(source + at + lane, mask=at + lane < k, other=0.0).to(tl.float32)
            largest = tl.maximum(largest, tl.abs(values))
        scale = tl.maximum(tl.max(largest, 0), 1e-30) * (1.0 / 448.0) + tl.zeros((1,), tl.float32)
        tl.store(scales + row + tl.arange(0, 1), scale)
    for at in range(0, k, BLOCK):
        values = tl.load(source + at + lane, mask=at + lane < k, other=0.0).to(tl.float32)
        if GROUP:
            group = tl.arange(0, BLOCK // GROUP)
            grouped = tl.reshape(values, (BLOCK // GROUP, GROUP))
            each = tl.maximum(tl.max(tl.abs(grouped), 1), 1e-30) * (1.0 / 448.0)
            place = at // GROUP + group
            tl.store(scales + row * num_groups + place, each, mask=place < num_groups)
            result = tl.reshape(_rounded(grouped, each[:, None]), (BLOCK,))
        else:
            result = _rounded(values, scale)
        tl.store(target + at + lane, result.to(codes.dtype.element_ty), mask=at + lane < k)


@triton.jit
def _widened(codes, dtype: tl.constexpr):
    """Codes uint8 -> 1/256 of their values, exactly: 3 bits of fraction and 4 of exponent move to their places in a
    float16, whose exponent counts from -15 in place of -7."""
    bits = ((codes & 0x80).to(tl.uint16) << 8) | ((codes & 0x7F).to(tl.uint16) << 7)
    values = bits.to(tl.float16, bitcast=True).to(tl.float32)
    return tl.where((codes & 0x7F) == 0x7F, float("nan"), values).to(dtype)


@triton.jit(do_not_specialize=["num_rows", "split_stride", "num_steps", "steps_per_split"])
def _fp8_linear(
    x, x_scales, data, scales, bias, out, x_stride, x_scale_stride, out_stride, split_stride, num_rows, n, k, row_bytes,
    num_steps, steps_per_split, GROUP: tl.constexpr, IS_ROUNDED: tl.constexpr, HAS_BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """`data` as e4m3 where inputs are rounded, else as uint8; `scales`: the data as fp32."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(2)
    row_inside, column_inside = row < num_rows, column < n
    scale_at = (column * row_bytes + k) // 4
    total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for step in range(split * steps_per_split, tl.minimum((split + 1) * steps_per_split, num_steps)):
        element = step * BLOCK_K + tl.arange(0, BLOCK_K)
        inside = element < k
        source = data + (column * row_bytes)[:, None] + element[None, :]
        is_code = column_inside[:, None] & inside[None, :]
        inputs = tl.load(
            x + row[None, :] * x_stride + element[:, None], mask=row_inside[None, :] & inside[:, None], other=0.0
        )
        if IS_ROUNDED:
            weight = tl.load(source, mask=is_code, other=0.0)
        else:
            weight = _widened(tl.load(source, mask=is_code, other=0), x.dtype.element_ty)
        if GROUP:
            each = tl.load(scales + scale_at + step * BLOCK_K // GROUP, mask=column_inside, other=0.0)[:, None]
            if IS_ROUNDED:
                at = x_scales + row * x_scale_stride + step * BLOCK_K // GROUP
                each = each * tl.load(at, mask=row_inside, other=0.0)[None, :]
            total += tl.dot(weight, inputs, input_precision="ieee") * each
        elif IS_ROUNDED:  # tensor cores of sm_90 keep 14 bits of a sum: it is moved on after each step
            total = tl.dot(weight, inputs, total, max_num_imprecise_acc=BLOCK_K)
        else:
            total = tl.dot(weight, inputs, total, input_precision="ieee")
    if not IS_ROUNDED:
        total *= 256.0
    if GROUP == 0:
        total *= tl.load(scales + scale_at, mask=column_inside, other=0.0)[:, None]
        if IS_ROUNDED:
            total *= tl.load(x_scales + row * x_scale_stride, mask=row_inside, other=0.0)[None, :]
    if HAS_BIAS:
        total += tl.load(bias + column, mask=column_inside, other=0.0).to(tl.float32)[:, None]
    place = out + split * split_stride + row[None, :] * out_stride + column[:, None]
    tl.store(place, total.to(out.dtype.element_ty), mask=row_inside[None, :] & column_inside[:, None])


def linear(out: torch.Tensor, x: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None) -> None:
    """out [T, N] of any float dtype may be columns of a wider tensor."""
    num_rows = x.shape[0]
    if not num_rows:
        return
    x = x if x.stride(1) == 1 else x.contiguous()
    is_rounded = rounds_inputs(weight.format)
    data, x_scales, x_scale_stride = weight.data, x, 0
    if is_rounded:
        x, x_scales, x_scale_stride = round_inputs(x, weight)
        data = data.view(torch.float8_e4m3fn)
    group = FP8_FORMATS[weight.format].group
    settings = launch.launch("fp8_linear", rows=num_rows, group=group)
    num_programs, added = settings.pop("programs"), settings.pop("BLOCK_SUM")
    num_steps = triton.cdiv(weight.k, settings["BLOCK_K"])
    tiles = (triton.cdiv(num_rows, settings["BLOCK_M"]), triton.cdiv(weight.n, settings["BLOCK_N"]))
    per_split = triton.cdiv(num_steps, num_splits(tiles[0] * tiles[1], num_steps, num_programs))
    splits = triton.cdiv(num_steps, per_split)
    sums = out if splits == 1 else torch.empty((splits, num_rows, weight.n), dtype=torch.float32, device=x.device)
    with_bias = bias is not None and splits == 1
    _fp8_linear[(*tiles, splits)](
        x, x_scales, data, weight.data.view(torch.float32), bias if with_bias else x, sums, x.stride(0), x_scale_stride,
        sums.stride(-2), num_rows * weight.n, num_rows, weight.n, weight.k, weight.data.shape[1], num_steps, per_split,
        GROUP=group, IS_ROUNDED=is_rounded, HAS_BIAS=with_bias, **settings,
    )  # fmt: skip
    if splits > 1:
        add_splits(out, sums, bias, added)


def rounds_inputs(format: str) -> bool:
    """Whether inputs of such a weight are rounded to e4m3 on the present device."""
    return FP8_FORMATS[format].inputs != "exact" and not launch.lacks_fp8()


def round_inputs(x: torch.Tensor, weight: PackedWeight) -> tuple[torch.Tensor, torch.Tensor, int]:
    """x [T, K] -> codes e4m3 [T, K], their fp32 scales, and from one row's scales to the next one's."""
    found = FP8_FORMATS[weight.format]
    codes = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    num_groups = num_scales(weight.format, weight.k) if found.group else 1
    scales = weight.input_scale
    if scales is None:
        scales = torch.empty((x.shape[0], num_groups), dtype=torch.float32, device=x.device)
    _round_inputs[(x.shape[0],)](
        x, scales, codes, scales, x.stride(0), weight.k, num_groups, GROUP=found.group,
        IS_FIXED=weight.input_scale is not None, **launch.launch("fp8_inputs", columns=weight.k),
    )  # fmt: skip
    return codes, scales, 0 if weight.input_scale is not None else num_groups
