"""mask_tokens by `kvik._native`. Shapes, dtypes and rows were checked by the caller."""

from __future__ import annotations

from torch import Tensor

from kvik.kernels.runtime import native


def mask_tokens(logits: Tensor, rows: Tensor, masks: Tensor) -> None:
    rows, masks = rows.contiguous(), masks.contiguous()
    native.mask_tokens(
        logits.data_ptr(), logits.shape[1], rows.data_ptr(), rows.shape[0], masks.data_ptr(), masks.shape[1]
    )
