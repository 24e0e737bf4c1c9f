"""linear of a weight of floats on a GPU: torch's product, straight into its place. Knows no format."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor:
    """x [T, K], weight [N, K], which is converted where it is of another dtype than x. With `out` [T, N], of x's dtype
    and perhaps columns of a wider tensor, the product is written there."""
    weight = weight.to(x.dtype)
    if out is None:
        return F.linear(x, weight, bias) if dtype is x.dtype else _wide(x, weight, bias)
    if bias is None:
        return torch.mm(x, weight.t(), out=out)
    return torch.addmm(bias, x, weight.t(), out=out)


def _wide(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The fp32 sums of a product in 16 bits."""
    if not x.is_cuda:  # the interpreter stands in for a GPU; torch has no such product on a CPU
        return F.linear(x.float(), weight.float(), None if bias is None else bias.float())
    sums = torch.mm(x, weight.t(), out_dtype=torch.float32)
    return sums if bias is None else sums + bias.float()
