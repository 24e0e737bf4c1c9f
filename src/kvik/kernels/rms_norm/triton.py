"""rms_norm in Triton: a program per row, which is read once and written once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from kvik.kernels.launch import launch


@triton.jit
def _rms_norm(
    x, residual, weight, out, x_stride, columns, eps,
    ADD: tl.constexpr, UNIT_OFFSET: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    dtype = out.dtype.element_ty
    values = tl.load(x + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        place = residual + row * columns + column
        total = (values + tl.load(place, mask=inside, other=0.0).to(tl.float32)).to(dtype)
        tl.store(place, total, mask=inside)
        values = total.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, 0) / columns + eps)
    factor = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    if UNIT_OFFSET:
        normed = values * scale * (1.0 + factor)
    else:
        normed = (values * scale).to(dtype).to(tl.float32) * factor
    tl.store(out + row * columns + column, normed.to(dtype), mask=inside)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, *, unit_offset: bool = False) -> torch.Tensor:
    return _run(x, None, weight, eps, unit_offset)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float, *, unit_offset: bool = False
) -> torch.Tensor:
    return _run(x, residual, weight, eps, unit_offset)


def _run(
    x: torch.Tensor, residual: torch.Tensor | None, weight: torch.Tensor, eps: float, unit_offset: bool
) -> torch.Tensor:
    num_rows, columns = x.shape
    if x.stride(1) != 1:
        x = x.contiguous()
    out = torch.empty((num_rows, columns), dtype=x.dtype, device=x.device)
    if num_rows and columns:
        sums = x if residual is None else residual
        _rms_norm[(num_rows,)](
            x, sums, weight, out, x.stride(0), columns, eps, ADD=residual is not None,
            UNIT_OFFSET=unit_offset, BLOCK=triton.next_power_of_2(columns), **launch("rms_norm", columns=columns),
        )  # fmt: skip
    return out
