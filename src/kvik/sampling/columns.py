"""What a batch of requests asks of the draw, as arrays beside their logits: one buffer, so one copy to a GPU.

Knows no token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kvik.sampling.state import SamplingState

_ROW_BYTES = 3 * 4 + 4 + 2 * 8


class Columns(NamedTuple):
    """A value per row of the logits, in the order of `kernels.sample.sample`'s arguments."""

    temperature: Tensor  # [R] fp32
    top_k: Tensor  # [R] int32
    top_p: Tensor  # [R] fp32
    min_p: Tensor  # [R] fp32
    seeds: Tensor  # [R] int64
    positions: Tensor  # [R] int64: the counter of each row's random number

    @property
    def filters(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """temperature, top_k, top_p, min_p."""
        return self.temperature, self.top_k, self.top_p, self.min_p


def columns_of(states: Sequence[SamplingState], device: torch.device) -> Columns:
    """Of the requests in their order. The copy to a GPU is not waited for."""
    num_rows = len(states)
    host = torch.empty(num_rows * _ROW_BYTES, dtype=torch.uint8, pin_memory=device.type == "cuda")
    buffer = host.numpy()
    wide, narrow = buffer[: 16 * num_rows].view(np.int64), buffer[16 * num_rows :]
    floats, whole = narrow.view(np.float32), narrow.view(np.int32)
    wide[:num_rows] = [s.seed for s in states]
    wide[num_rows:] = [s.position for s in states]
    whole[:num_rows] = [s.params.top_k for s in states]
    floats[num_rows : 2 * num_rows] = [s.params.temperature for s in states]
    floats[2 * num_rows : 3 * num_rows] = [s.params.top_p for s in states]
    floats[3 * num_rows :] = [s.params.min_p for s in states]
    placed = host.to(device, non_blocking=True)
    seeds, positions = placed[: 16 * num_rows].view(torch.int64).view(2, num_rows)
    top_k = placed[16 * num_rows : 20 * num_rows].view(torch.int32)
    temperature, top_p, min_p = placed[20 * num_rows :].view(torch.float32).view(3, num_rows)
    return Columns(temperature, top_k, top_p, min_p, seeds, positions)
