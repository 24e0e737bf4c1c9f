"""quantize in plain torch, for any device. Blocks are rows here: values [B, 32] fp32 -> uint8 [B, bytes]."""

from __future__ import annotations

from collections.abc import Callable

import torch

BLOCK = 32
# The search for a scale of 4 bits: the largest number is tried at these codes. It may be cut off, for the sake of the
# others, or leave codes unused.
LARGEST_CODES = [-9.0 + 0.25 * i for i in range(16)]  # q4_0, codes from -8 to 7
RANGE_CODES = [13.0 + 0.25 * i for i in range(16)]  # q4_1, codes from 0 to 15


def quantize(values: torch.Tensor, format: str) -> torch.Tensor:
    """values [R, K] -> [blocks, bytes of a block]."""
    return _BY_FORMAT[format](values.reshape(-1, BLOCK))


def _q8_0(values: torch.Tensor) -> torch.Tensor:
    scale = (_not_finite(values) + values.abs().amax(dim=1, keepdim=True) / 127.0).half()
    codes = _codes(values, scale.float(), -127, 127)
    return torch.cat([_bytes(scale), codes.to(torch.int8).view(torch.uint8)], dim=1)


def _q4_0(values: torch.Tensor) -> torch.Tensor:
    bad = _not_finite(values)
    largest = values.gather(1, values.abs().argmax(dim=1, keepdim=True))
    best, least = torch.zeros_like(largest), (values * values).sum(dim=1, keepdim=True)
    for code in LARGEST_CODES:
        codes = _codes(values, largest / code, -8, 7)
        squares = (codes * codes).sum(dim=1, keepdim=True)
        fitted = (values * codes).sum(dim=1, keepdim=True) / squares.clamp(min=1)  # least squares for these codes
        scale = fitted.half().float()
        error = (values - scale * _codes(values, scale, -8, 7)).square().sum(dim=1, keepdim=True)
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    scale = (best + bad).half()
    return torch.cat([_bytes(scale), _nibbles(_codes(values, scale.float(), -8, 7) + 8)], dim=1)


def _q4_1(values: torch.Tensor) -> torch.Tensor:
    bad = _not_finite(values)
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    total = values.sum(dim=1, keepdim=True)
    best, offset = torch.zeros_like(low), (total / BLOCK).half().float()
    least = (values - offset).square().sum(dim=1, keepdim=True)
    for code in RANGE_CODES:
        codes = _codes(values - low, (high - low) / code, 0, 15)
        sum_, squares = codes.sum(dim=1, keepdim=True), (codes * codes).sum(dim=1, keepdim=True)
        products = (values * codes).sum(dim=1, keepdim=True)
        spread = (BLOCK * squares - sum_ * sum_).clamp(min=1)  # 0 where all codes are equal
        scale = ((BLOCK * products - total * sum_) / spread).half().float()
        minimum = ((squares * total - sum_ * products) / spread).half().float()
        error = (values - minimum - scale * _codes(values - minimum, scale, 0, 15)).square().sum(dim=1, keepdim=True)
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
        offset = torch.where(better, minimum, offset)
    scale, minimum = (best + bad).half(), (offset + bad).half()
    codes = _codes(values - minimum.float(), scale.float(), 0, 15)
    return torch.cat([_bytes(scale), _bytes(minimum), _nibbles(codes)], dim=1)


def _codes(values: torch.Tensor, scale: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """The codes nearest to values / scale, as floats; the one nearest to 0 where the scale is no use."""
    inverse = 1.0 / scale
    usable = inverse.isfinite() & scale.isfinite()
    return (values * torch.where(usable, inverse, 0.0)).round().nan_to_num(0.0).clamp(low, high)


def _not_finite(values: torch.Tensor) -> torch.Tensor:
    """[B, 1]: NaN for a block with a NaN or an infinity, else 0."""
    return torch.where(values.isfinite().all(dim=1, keepdim=True), 0.0, torch.nan)


def _bytes(halves: torch.Tensor) -> torch.Tensor:
    return halves.contiguous().view(torch.uint8)


def _nibbles(codes: torch.Tensor) -> torch.Tensor:
    """32 codes from 0 to 15 -> 16 bytes: the first 16 in the low nibbles, the others in the high ones."""
    whole = codes.to(torch.uint8)
    return whole[:, :16] | whole[:, 16:] << 4


_BY_FORMAT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"q8_0": _q8_0, "q4_0": _q4_0, "q4_1": _q4_1}
