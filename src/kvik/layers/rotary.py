"""Tables of cosines and sines for rotary position embeddings.

Computed in fp32 with the operations, in the order, that `transformers` uses, so that they are the same bit for bit.
"""

from __future__ import annotations

import math

import torch

from kvik.layers.parameters import ParameterTable
from kvik.modelfile.spec import Llama3RopeScaling, RopeSpec

FREQUENCY_FACTORS = "rope_freqs.weight"
"""A GGUF file states Llama 3's scaling as this tensor [head_dim / 2]: each frequency is divided by its factor."""


class RotaryTable:
    """`cos_sin` [max_positions, head_dim] fp32: a position's cosines in the first half of its row, then its sines."""

    __slots__ = ("_inverse_frequencies", "cos_sin")

    def __init__(self, table: ParameterTable, rope: RopeSpec, head_dim: int, max_positions: int) -> None:
        self._inverse_frequencies = inverse_frequencies(rope, head_dim)
        self.cos_sin = torch.empty(max_positions, head_dim, dtype=torch.float32, device=table.device)
        self._fill(self._inverse_frequencies)

    def apply_factors(self, factors: torch.Tensor) -> None:
        """Divide each frequency by its factor [head_dim / 2]. The table is rewritten in place."""
        self._fill(self._inverse_frequencies / factors.float().to(self._inverse_frequencies.device))

    def _fill(self, frequencies: torch.Tensor) -> None:
        positions = torch.arange(self.cos_sin.shape[0], dtype=torch.int32)
        angles = positions[:, None].float() * frequencies
        half = frequencies.numel()
        self.cos_sin[:, :half] = angles.cos()
        self.cos_sin[:, half:] = angles.sin()


def inverse_frequencies(rope: RopeSpec, head_dim: int) -> torch.Tensor:
    """Radians per position of each pair of features, [head_dim / 2] fp32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    frequencies = 1.0 / (rope.theta**exponents)
    if rope.llama3 is not None:
        return _llama3(frequencies, rope.llama3)
    if rope.linear_factor != 1.0:
        frequencies = frequencies / rope.linear_factor
    return frequencies


def _llama3(frequencies: torch.Tensor, scaling: Llama3RopeScaling) -> torch.Tensor:
    """Llama 3.1's scaling: waves longer than the old context by `low_freq_factor` are stretched whole, those shorter
    by `high_freq_factor` not at all, and between the two the stretched and the plain frequency are blended."""
    context = scaling.original_max_position_embeddings
    waves = 2 * math.pi / frequencies
    stretched = frequencies / scaling.factor
    share = (context / waves - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blended = (1 - share) * frequencies / scaling.factor + share * frequencies
    is_long = waves > context / scaling.low_freq_factor
    is_short = waves < context / scaling.high_freq_factor
    return torch.where(is_long, stretched, torch.where(is_short, frequencies, blended))
