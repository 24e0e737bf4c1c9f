"""linear by `kvik._native`. Shapes, dtypes and bounds of rows were checked by the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kvik.kernels.linear.formats import FIXED_POINT, FLOAT_FORMATS, QUANTIZED, code_of
from kvik.kernels.runtime import DTYPE_CODES, native

if TYPE_CHECKING:
    from kvik.kernels.linear.packed_weight import PackedWeight

PANEL_ROWS = 16


def allocate(n: int, k: int, format: str) -> torch.Tensor:
    """Zeroed memory of a packed weight: [panels, steps of K, 16, elements of a step], or uint8 [panels, bytes]."""
    panels = -(-n // PANEL_ROWS)
    if format in QUANTIZED or format == FIXED_POINT:
        panel_bytes = _panel_bytes(k, format)
        blocks: torch.Tensor = native.allocate(panels * panel_bytes)
        return blocks.view(panels, panel_bytes)
    dtype = FLOAT_FORMATS[format]
    unit = 4 // dtype.itemsize
    steps = -(-k // unit)
    data: torch.Tensor = native.allocate(panels * steps * PANEL_ROWS * 4)
    return data.view(dtype).view(panels, steps, PANEL_ROWS, unit)


def _panel_bytes(k: int, format: str) -> int:
    """As csrc/packed_blocks.h or csrc/packed_q16.h lays a panel out."""
    if format == FIXED_POINT:
        return 64 + -(-k // 32) * 1024
    pairs, odd = divmod(k // 32, 2)
    if format == "q8_0":
        return pairs * (64 + 1024) + odd * (64 + 512)
    if format == "q4_0":
        return pairs * (64 + 512) + odd * (64 + 256)
    if format == "q4_1":
        return k // 32 * (64 + 256)
    if format == "q4_k":
        return k // 256 * (64 + 256 + 2048)
    return k // 256 * (64 + 256 + 3072)


def linear(out: torch.Tensor, x: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None) -> None:
    """out [T, N] may be columns of a wider tensor."""
    x = x.contiguous()
    bias = None if bias is None else bias.contiguous()
    panels = weight.data.shape[0]
    native.Tape.announce(weight.data.data_ptr(), panels, weight.data.nbytes // panels)
    native.linear(
        out.data_ptr(),
        out.stride(0),
        x.data_ptr(),
        weight.data.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        x.shape[0],
        weight.n,
        weight.k,
        code_of(weight.format),
    )


def pack_blocks(weight: PackedWeight, first_row: int, blocks: torch.Tensor) -> None:
    blocks = blocks.contiguous()
    code = code_of(weight.format)
    native.pack_blocks(weight.data.data_ptr(), weight.k, first_row, blocks.data_ptr(), blocks.shape[0], code)


def pack_rows(weight: PackedWeight, first_row: int, rows: torch.Tensor) -> None:
    rows = rows.contiguous()
    native.pack_rows(
        weight.data.data_ptr(),
        weight.k,
        first_row,
        rows.data_ptr(),
        rows.shape[0],
        code_of(weight.format),
        DTYPE_CODES[rows.dtype],
    )


def gather_rows(weight: PackedWeight, ids: torch.Tensor) -> torch.Tensor:
    ids = ids.to(torch.int32).contiguous()
    dtype = weight.dtype or torch.float32
    out = torch.empty((ids.shape[0], weight.k), dtype=dtype)
    bad = native.embedding(
        out.data_ptr(),
        weight.data.data_ptr(),
        True,
        weight.n,
        weight.k,
        ids.data_ptr(),
        ids.shape[0],
        1.0,
        DTYPE_CODES[dtype],
        code_of(weight.format),
    )
    if bad >= 0:
        raise IndexError(f"ids[{bad}] is {int(ids[bad])}; it must lie in [0, {weight.n})")
    return out
