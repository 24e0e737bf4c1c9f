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
    if logits.device.type != "cpu":
        rows = logits.cpu()
        apply_masks(rows, masks)
        logits.copy_(rows)
        return
    values = logits.numpy()
    for row, mask in zip(values, masks, strict=True):
        if mask is not None:
            _apply(row, mask)


def _apply(row: npt.NDArray[np.float32], mask: TokenMask) -> None:
    """Grammars allow a few tokens or all but a few, so it is the few that are touched one by one."""
    allowed = np.unpackbits(mask.view(np.uint8), count=len(row), bitorder="little").view(np.bool_)
    if 2 * np.count_nonzero(allowed) > len(row):
        row[np.flatnonzero(~allowed)] = -np.inf
        return
    ids = np.flatnonzero(allowed)
    kept = row[ids]
    row.fill(-np.inf)
    row[ids] = kept


def apply_masks_reference(logits: Tensor, masks: Sequence[TokenMask | None]) -> None:
    """The same in plain torch."""
    for row, mask in zip(logits, masks, strict=True):
        if mask is not None:
            bits = np.unpackbits(mask.view(np.uint8), count=logits.shape[1], bitorder="little")
            row.masked_fill_(torch.from_numpy(bits == 0), -torch.inf)
