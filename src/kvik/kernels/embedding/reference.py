"""embedding in plain torch, for any device."""

from __future__ import annotations

import torch

from kvik.kernels.linear.reference import gather_rows


def embedding(ids: torch.Tensor, table: torch.Tensor, dtype: torch.dtype, scale: float = 1.0) -> torch.Tensor:
    return embed(gather_rows(table, ids), dtype, scale)


def embed(rows: torch.Tensor, dtype: torch.dtype, scale: float) -> torch.Tensor:
    """Rows in any dtype -> rounded to `dtype`, times the scale rounded to `dtype`."""
    rounded = rows.to(dtype)
    return rounded if scale == 1.0 else rounded * torch.tensor(scale, dtype=dtype, device=rows.device)
