"""Packed bits of allowed tokens -> logits that are -inf everywhere else. Knows no grammar and no request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kvik.kernels.mask_tokens import mask_tokens

TokenMask = npt.NDArray[np.uint32]
"""Bit i % 32 of word i // 32 is set where token i is allowed; at least one bit per token of the vocabulary."""


def apply_masks(logits: Tensor, masks: Sequence[TokenMask | None]) -> None:
    """Rule out, in place, what the masks [R] of the rows of logits [R, V] do not allow; None allows all."""
    rows = [r for r, mask in enumerate(masks) if mask is not None]
    if not rows:
        return
    words = torch.from_numpy(np.stack([mask for mask in masks if mask is not None]).view(np.int32))
    where = torch.tensor(rows, dtype=torch.int32)
    mask_tokens(logits, where.to(logits.device), words.to(logits.device))
