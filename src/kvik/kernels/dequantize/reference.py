"""dequantize in plain torch, for any device.

Each format is a function of its blocks: uint8 [B, bytes] -> fp32 [B, elements].
"""

from __future__ import annotations

from collections.abc import Callable

import torch

_PLAIN = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def dequantize(data: torch.Tensor, fmt: str, num_blocks: int, dtype: torch.dtype) -> torch.Tensor:
    """data [bytes] uint8 -> [B, elements] in `dtype`."""
    if fmt in _PLAIN:
        return data.clone().view(_PLAIN[fmt]).to(dtype)  # a copy, for a view wants its bytes aligned
    return _QUANTIZED[fmt](data.view(num_blocks, -1)).to(dtype)


def _half(blocks: torch.Tensor, at: int) -> torch.Tensor:
    """The fp16 number at a byte offset -> [B, 1]."""
    return blocks[:, at : at + 2].clone().view(torch.float16).float()


def _nibbles(blocks: torch.Tensor, at: int) -> torch.Tensor:
    """16 bytes -> 32 codes: low nibbles, then high ones."""
    packed = blocks[:, at : at + 16]
    return torch.cat([packed & 15, packed >> 4], dim=1)


def _bits(blocks: torch.Tensor, at: int) -> torch.Tensor:
    """4 bytes -> 32 bits, least significant first."""
    shifts = torch.arange(8, dtype=torch.uint8, device=blocks.device)
    return (blocks[:, at : at + 4, None] >> shifts & 1).flatten(1)


def _q4_0(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * (_nibbles(blocks, 2).float() - 8)


def _q4_1(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * _nibbles(blocks, 4).float() + _half(blocks, 2)


def _q5_0(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * ((_nibbles(blocks, 6) | _bits(blocks, 2) << 4).float() - 16)


def _q5_1(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * (_nibbles(blocks, 8) | _bits(blocks, 4) << 4).float() + _half(blocks, 2)


def _q8_0(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * blocks[:, 2:].clone().view(torch.int8).float()


def _k_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and minimum of the 8 sub-blocks of q4_k and q5_k -> each [B, 8, 1]."""
    first, second, third = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = torch.cat([first & 63, third & 15 | first >> 6 << 4], dim=1)
    minima = torch.cat([second & 63, third >> 4 | second >> 6 << 4], dim=1)
    return (_half(blocks, 0) * scales.float())[..., None], (_half(blocks, 2) * minima.float())[..., None]


def _k_nibbles(blocks: torch.Tensor, at: int) -> torch.Tensor:
    """128 bytes -> [B, 8, 32]: each 32 bytes hold two sub-blocks, one in the low nibbles, one in the high."""
    packed = blocks[:, at : at + 128].reshape(-1, 4, 1, 32)
    return torch.cat([packed & 15, packed >> 4], dim=2).flatten(1, 2)


def _q4_k(blocks: torch.Tensor) -> torch.Tensor:
    scales, minima = _k_scales(blocks)
    return (scales * _k_nibbles(blocks, 16).float() - minima).flatten(1)


def _q5_k(blocks: torch.Tensor) -> torch.Tensor:
    scales, minima = _k_scales(blocks)
    shifts = torch.arange(8, dtype=torch.uint8, device=blocks.device)[:, None]
    fifth = blocks[:, None, 16:48] >> shifts & 1
    return (scales * (_k_nibbles(blocks, 48) | fifth << 4).float() - minima).flatten(1)


def _q6_k(blocks: torch.Tensor) -> torch.Tensor:
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = torch.cat([low & 15, low >> 4], dim=2).view(-1, 2, 4, 32)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=blocks.device)[:, None]
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3
    scales = _half(blocks, 208) * blocks[:, 192:208].clone().view(torch.int8).float()
    codes = (low | high << 4).view(-1, 16, 16).float() - 32
    return (scales[..., None] * codes).flatten(1)


_QUANTIZED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "q4_0": _q4_0,
    "q4_1": _q4_1,
    "q5_0": _q5_0,
    "q5_1": _q5_1,
    "q8_0": _q8_0,
    "q4_k": _q4_k,
    "q5_k": _q5_k,
    "q6_k": _q6_k,
}
