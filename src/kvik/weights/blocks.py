"""Integer codes and their scales -> blocks of GGUF: what all quantised checkpoints become.

A block holds 32 consecutive inputs of one output: its scale d, in q4_1 its offset m (both fp16), then the codes. Larger
groups repeat their scale. Codes are kept as they are; scales are rounded to fp16, which changes none that a checkpoint
stores in fp16, nor any of a sane size in bf16. Knows no file.
"""

from __future__ import annotations

import torch

BLOCK = 32
BLOCK_BYTES = {"q4_0": 18, "q4_1": 20, "q8_0": 34}


def blocks_of(fmt: str, codes: torch.Tensor, scales: torch.Tensor, offsets: torch.Tensor | None = None) -> torch.Tensor:
    """Codes [N, K] uint8 (int8 for q8_0), scales [N, G] and offsets [N, G] float -> uint8 [N, bytes of a row].

    A value is scale x (code - 8) in q4_0, scale x code + offset in q4_1, scale x code in q8_0; K is a multiple of
    32 x G.
    """
    num_rows, num_blocks = codes.shape[0], codes.shape[1] // BLOCK
    repeats = num_blocks // scales.shape[1]
    heads = [scales.to(torch.float16)]
    if fmt == "q4_1":
        assert offsets is not None
        heads.append(offsets.to(torch.float16))
    heads = [head.repeat_interleave(repeats, 1).contiguous().view(torch.uint8).view(num_rows, -1, 2) for head in heads]
    if fmt == "q8_0":
        body = codes.contiguous().view(torch.uint8).view(num_rows, num_blocks, BLOCK)
    else:
        halves = codes.view(num_rows, num_blocks, 2, BLOCK // 2)
        body = halves[:, :, 0] | halves[:, :, 1] << 4
    return torch.cat([*heads, body], dim=2).view(num_rows, -1)


def offsets_of(scales: torch.Tensor, zero_points: torch.Tensor) -> torch.Tensor:
    """Offsets for scale x (code - zero point): their product, which fp16 rounds to 11 bits."""
    return scales.float() * -zero_points.float()


def unpack_nibbles(words: torch.Tensor) -> torch.Tensor:
    """int32 [R, W], eight 4-bit codes each, the first in the lowest bits -> uint8 [R, 8 W]."""
    packed = words.contiguous().view(torch.uint8)
    return torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)


def unpack_bytes(words: torch.Tensor) -> torch.Tensor:
    """int32 [R, W], four 8-bit codes each, the first in the lowest bits -> uint8 [R, 4 W]."""
    return words.contiguous().view(torch.uint8)
