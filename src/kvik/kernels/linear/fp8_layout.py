"""Rows of a weight in 8-bit floats (e4m3) with fp32 scales: their formats, their bytes, and what they stand for.

A row is a stretch of uint8 of its own, which begins at a multiple of 16 bytes: a code for each of K inputs, then its
scales: one, or one for each 128 inputs; behind them, where inputs have a fixed scale, that one. The scale of a whole
tensor, or of a square of 128 x 128, is repeated in each of its rows, 4 bytes for K or for 128 codes: so parts of a
projection with scales of their own lie in one weight, as they were stored, and nothing is quantised a second time.
Knows no kernel.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

LARGEST = 448.0
"""Of e4m3, which has neither infinity nor more than one NaN of each sign (Micikevicius et al., "FP8 Formats for Deep
Learning", 2022)."""
_TINY = 1e-30
_ALIGNMENT = 16
_SCALE_BYTES = 4


class Fp8Format(NamedTuple):
    group: int
    """Inputs that share a scale of the weight; 0: all of a row."""
    inputs: Literal["token", "group", "tensor", "exact"]
    """What shares a scale when inputs are rounded to e4m3: a row, a group of a row, all of them by a scale that the
    checkpoint fixes; exact: they are not rounded."""


FP8_FORMATS = {
    "fp8": Fp8Format(0, "token"),
    "fp8_static": Fp8Format(0, "tensor"),
    "fp8_block": Fp8Format(128, "group"),
    "fp8_weight_only": Fp8Format(0, "exact"),
}
FP8_MULTIPLE = _ALIGNMENT
"""Of which K is a multiple."""
FP8_FROM_FLOATS = ("fp8", "fp8_weight_only")


def num_scales(format: str, k: int) -> int:
    """Of a row, that of the inputs among them."""
    found = FP8_FORMATS[format]
    return (-(-k // found.group) if found.group else 1) + (found.inputs == "tensor")


def block_bytes(format: str, k: int) -> int:
    """Bytes of a row's codes and scales."""
    return k + num_scales(format, k) * _SCALE_BYTES


def row_bytes(format: str, k: int) -> int:
    """The same in memory."""
    return -(-block_bytes(format, k) // _ALIGNMENT) * _ALIGNMENT


def join(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Codes uint8 [r, K], scales fp32 [r, S] -> a row's bytes uint8 [r, K + 4 S]."""
    return torch.cat([codes, scales.contiguous().view(torch.uint8)], dim=1)


def split(rows: torch.Tensor, format: str, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows uint8 [r, block_bytes or more] -> codes e4m3 [r, K], scales fp32 [r, S]."""
    scales = rows[:, k : block_bytes(format, k)].contiguous().view(torch.float32)
    return rows[:, :k].contiguous().view(torch.float8_e4m3fn), scales


def padded(rows: torch.Tensor, format: str, k: int) -> torch.Tensor:
    """Rows as `join` gives them -> as they lie in memory."""
    return F.pad(rows, (0, row_bytes(format, k) - block_bytes(format, k)))


def values_of(rows: torch.Tensor, format: str, k: int) -> torch.Tensor:
    """Rows uint8 [r, block_bytes or more] -> fp32 [r, K]: code x scale."""
    codes, scales = split(rows, format, k)
    group = FP8_FORMATS[format].group
    spread = scales.repeat_interleave(group, 1)[:, :k] if group else scales[:, :1]
    return codes.float() * spread


def rows_from(values: torch.Tensor) -> torch.Tensor:
    """Floats [r, K] -> rows of "fp8" as `join` gives them, the scale of each its largest size / 448."""
    codes, scales = to_fp8(values.float())
    return join(codes.view(torch.uint8), scales)


def to_fp8(x: torch.Tensor, scale: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """x [..., K] fp32 -> codes e4m3 [..., K] and scales fp32 [..., 1]: the largest size / 448, or `scale` for all.

    What is beyond 448 scales becomes that; a NaN stays one, and so a row that holds it gives NaN.
    """
    scales = x.abs().amax(dim=-1, keepdim=True).clamp(min=_TINY) * (1.0 / LARGEST) if scale is None else scale
    return (x * (1.0 / scales)).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scales
