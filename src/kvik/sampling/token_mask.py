"""Packed bits of allowed tokens -> logits that are -inf everywhere else. Knows no grammar and no request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

TokenMask = npt.NDArray[np.uint32]
"""Bit i % 32 of word i // 32 is set where token i is allowed; at least one bit per token of the vocabulary."""


def apply_masks(logits: Tensor, masks: Sequence[TokenMask | None]) -> None:
    """Rule out, in place, what the masks [R] of the rows of logits [R, V] do not allow; None allows all."""
    for row, mask in zip(logits, masks, strict=True):
        if mask is not None:
            forbidden = np.unpackbits((~mask).view(np.uint8), count=logits.shape[1], bitorder="little")
            row.masked_fill_(torch.from_numpy(forbidden.view(np.bool_)), -torch.inf)
