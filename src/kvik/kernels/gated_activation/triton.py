"""gated_activation in Triton: a program per row and stretch of columns."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from kvik.kernels.launch import launch


@triton.jit
def _gated_activation(x, out, x_stride, columns, IS_SILU: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    dtype = out.dtype.element_ty
    gate = tl.load(x + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + row * x_stride + columns + column, mask=inside, other=0.0).to(tl.float32)
    if IS_SILU:
        activated = gate * tl.sigmoid(gate)
    else:
        # (1 + tanh(z)) / 2 = sigmoid(2 z)
        z = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        activated = gate * tl.sigmoid(2.0 * z)
    product = activated.to(dtype).to(tl.float32) * up
    tl.store(out + row * columns + column, product.to(dtype), mask=inside)


def gated_activation(x: torch.Tensor, kind: str) -> torch.Tensor:
    if x.stride(1) != 1:
        x = x.contiguous()
    num_rows, columns = x.shape[0], x.shape[1] // 2
    out = torch.empty((num_rows, columns), dtype=x.dtype, device=x.device)
    if num_rows and columns:
        settings = launch("gated_activation", columns=columns)
        grid = (num_rows, triton.cdiv(columns, settings["BLOCK"]))
        _gated_activation[grid](x, out, x.stride(0), columns, IS_SILU=kind == "silu", **settings)
    return out
