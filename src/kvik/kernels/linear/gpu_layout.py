"""Rows of quantised weights as a GPU reads them: the codes of a row together, then its scales. Knows no kernel.

A GGUF block has its scales beside its codes, at odd places; here each row is a stretch of uint8 of its own, so that
rows can be gathered, beginning at a multiple of 16 bytes:

    codes   q8_0: a byte each. Others: 32 bytes for 64 elements, the first 32 in the low nibbles, the rest in the high
    high    q6_k: 16 bytes for 64 elements; byte t has the upper bits of elements 16 j + t at bit 2 j
    small   q4_k: scale and minimum of each 32 elements, a byte each; q6_k: the scale of each 16, signed
    halves  fp16; q8_0, q4_0: the scale of each 32; q4_1: scale and minimum of each 32; q4_k: of each 256; q6_k: the
            scale of each 256

Nothing is lost: `blocks_of` is the inverse of `rows_of`. Sizes are those of the blocks, but for the padding of a row
and 4 bytes in 144 of q4_k, whose numbers of 6 bits have a byte each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from kvik.kernels.dequantize import FORMATS

_ALIGNMENT = 16
Parts = list[torch.Tensor]  # codes, high, small, halves: uint8 [rows, bytes of a row]


class GpuLayout(NamedTuple):
    """Where the parts of a row begin, bytes; codes begin at 0."""

    high: int
    small: int
    halves: int
    end: int
    row_bytes: int  # with padding


def layout_of(format: str, k: int) -> GpuLayout:
    """Of rows of K elements, a multiple of the format's block."""
    pairs = -(-k // 64)
    codes, high, small, halves = {
        "q8_0": (k, 0, 0, k // 16),
        "q4_0": (pairs * 32, 0, 0, k // 16),
        "q4_1": (pairs * 32, 0, 0, k // 8),
        "q4_k": (pairs * 32, 0, k // 16, k // 64),
        "q6_k": (pairs * 32, pairs * 16, k // 16, k // 128),
    }[format]
    end = codes + high + small + halves
    return GpuLayout(codes, codes + high, codes + high + small, end, -(-end // _ALIGNMENT) * _ALIGNMENT)


def rows_of(blocks: torch.Tensor, format: str, k: int) -> torch.Tensor:
    """blocks uint8 [r, bytes of a row in GGUF] -> uint8 [r, row_bytes], on the same device."""
    layout = layout_of(format, k)
    if not len(blocks):
        return blocks.new_empty(0, layout.row_bytes)
    each = blocks.reshape(blocks.shape[0], k // FORMATS[format].block_size, FORMATS[format].block_bytes)
    parts = [part.flatten(1) for part in _FROM_BLOCKS[format](each)]
    return F.pad(torch.cat(parts, dim=1), (0, layout.row_bytes - layout.end))


def blocks_of(rows: torch.Tensor, format: str, k: int) -> torch.Tensor:
    """The inverse of `rows_of`."""
    num_blocks, layout = k // FORMATS[format].block_size, layout_of(format, k)
    if not len(rows):
        return rows.new_empty(0, num_blocks * FORMATS[format].block_bytes)
    begins = (0, layout.high, layout.small, layout.halves, layout.end)
    parts = [rows[:, begins[i] : begins[i + 1]] for i in range(4)]
    return torch.cat(_TO_BLOCKS[format](parts, num_blocks), dim=2).flatten(1)


def _nibbles_of(codes: torch.Tensor) -> torch.Tensor:
    """The lower 4 bits of codes [r, K] -> [r, bytes], 32 for each 64 elements; an odd 32 has zeros above."""
    padded = F.pad(codes & 15, (0, -codes.shape[1] % 64))
    pairs = padded.view(len(codes), -1, 2, 32)
    return (pairs[:, :, 0] | pairs[:, :, 1] << 4).flatten(1)


def _codes_of(nibbles: torch.Tensor) -> torch.Tensor:
    """The inverse of `_nibbles_of`: [r, bytes] -> [r, K rounded up to 64]."""
    packed = nibbles.reshape(len(nibbles), -1, 1, 32)
    return torch.cat([packed & 15, packed >> 4], dim=2).flatten(1)


def _join(codes: torch.Tensor) -> torch.Tensor:
    """Codes of 4 bits [..., 32] -> 16 bytes as in blocks of 32."""
    return codes[..., :16] | codes[..., 16:] << 4


def _split(packed: torch.Tensor) -> torch.Tensor:
    return torch.cat([packed & 15, packed >> 4], dim=-1)


def _from_q8_0(blocks: torch.Tensor) -> Parts:
    return [blocks[:, :, 2:], blocks[:, :, :2]]


def _to_q8_0(parts: Parts, num_blocks: int) -> Parts:
    return [parts[3].reshape(-1, num_blocks, 2), parts[0].reshape(-1, num_blocks, 32)]


def _from_32s(blocks: torch.Tensor) -> Parts:
    """q4_0 and q4_1: halves, then 16 bytes of codes."""
    return [_nibbles_of(_split(blocks[:, :, -16:]).flatten(1)), blocks[:, :, :-16]]


def _to_32s(parts: Parts, num_blocks: int) -> Parts:
    codes = _codes_of(parts[0])[:, : num_blocks * 32]
    return [parts[3].reshape(len(codes), num_blocks, -1), _join(codes.reshape(-1, num_blocks, 32))]


def _from_q4_k(blocks: torch.Tensor) -> Parts:
    """The codes lie as they are wanted; scales and minima of 6 bits are taken from their 12 bytes."""
    first, second, third = blocks[:, :, 4:8], blocks[:, :, 8:12], blocks[:, :, 12:16]
    scales = torch.cat([first & 63, third & 15 | first >> 6 << 4], dim=2)
    minima = torch.cat([second & 63, third >> 4 | second >> 6 << 4], dim=2)
    return [blocks[:, :, 16:], torch.stack([scales, minima], dim=3), blocks[:, :, :4]]


def _to_q4_k(parts: Parts, num_blocks: int) -> Parts:
    scales, minima = parts[2].reshape(-1, num_blocks, 8, 2).unbind(3)
    low, high = slice(0, 4), slice(4, 8)
    sixes = [
        scales[:, :, low] | scales[:, :, high] >> 4 << 6,
        minima[:, :, low] | minima[:, :, high] >> 4 << 6,
        scales[:, :, high] & 15 | minima[:, :, high] << 4,
    ]
    return [parts[3].reshape(-1, num_blocks, 4), *sixes, parts[0].reshape(-1, num_blocks, 128)]


def _from_q6_k(blocks: torch.Tensor) -> Parts:
    rows, num_blocks, _ = blocks.shape
    low = _split(blocks[:, :, :128].reshape(rows, num_blocks, 2, 64)).flatten(1)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=blocks.device)
    upper = blocks[:, :, 128:192].reshape(rows, num_blocks, 2, 1, 32) >> shifts[:, None] & 3
    high = (upper.view(rows, num_blocks * 4, 4, 16) << shifts[:, None]).sum(dim=2, dtype=torch.uint8)
    return [_nibbles_of(low), high, blocks[:, :, 192:208], blocks[:, :, 208:]]


def _to_q6_k(parts: Parts, num_blocks: int) -> Parts:
    low = _codes_of(parts[0]).view(-1, num_blocks, 2, 2, 64)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=low.device)[:, None]
    upper = parts[1].reshape(len(low), -1, 1, 16) >> shifts & 3
    quarters = upper.view(-1, num_blocks, 2, 4, 32)
    return [
        (low[:, :, :, 0] | low[:, :, :, 1] << 4).flatten(2),
        (quarters << shifts).sum(dim=3, dtype=torch.uint8).flatten(2),
        parts[2].reshape(-1, num_blocks, 16),
        parts[3].reshape(-1, num_blocks, 2),
    ]


_FROM_BLOCKS: dict[str, Callable[[torch.Tensor], Parts]] = {
    "q8_0": _from_q8_0, "q4_0": _from_32s, "q4_1": _from_32s, "q4_k": _from_q4_k, "q6_k": _from_q6_k,
}  # fmt: skip
_TO_BLOCKS: dict[str, Callable[[Parts, int], Parts]] = {
    "q8_0": _to_q8_0, "q4_0": _to_32s, "q4_1": _to_32s, "q4_k": _to_q4_k, "q6_k": _to_q6_k,
}  # fmt: skip
