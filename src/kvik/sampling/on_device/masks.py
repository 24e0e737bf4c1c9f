"""The tokens that rows of a batch may have at all, by their grammars and their allowed_token_ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kvik.kernels.mask_tokens import mask_tokens
from kvik.sampling.on_device.parcel import send
from kvik.sampling.token_mask import TokenMask


class Masks:
    """Of one batch of rows. `apply` once per step."""

    def __init__(self, allowed: Sequence[TokenMask | None], place: torch.device) -> None:
        """`allowed` [R]: what each row may have in every step."""
        self._allowed = allowed
        self._place = place
        self._sent: list[Tensor] | None = None
        """Rows and masks of a step without grammars, which the next one has again."""

    def apply(self, logits: Tensor, grammars: Sequence[TokenMask | None] | None) -> None:
        """Rule out in logits [R, V]; grammars [R], of this step alone."""
        if grammars is not None and any(mask is not None for mask in grammars):
            pairs = zip(self._allowed, grammars, strict=True)
            mask_tokens(logits, *self._send([_both(*pair) for pair in pairs], logits.shape[1]))
        elif any(mask is not None for mask in self._allowed):
            if self._sent is None:
                self._sent = self._send(self._allowed, logits.shape[1])
            mask_tokens(logits, *self._sent)

    def _send(self, masks: Sequence[TokenMask | None], vocab_size: int) -> list[Tensor]:
        num_words = -(-vocab_size // 32)
        rows = np.array([r for r, mask in enumerate(masks) if mask is not None], np.int32)
        words = np.stack([mask[:num_words] for mask in masks if mask is not None])
        return send([rows, words.view(np.int32)], self._place)


def _both(first: TokenMask | None, second: TokenMask | None) -> TokenMask | None:
    if first is None or second is None:
        return second if first is None else first
    num_words = min(len(first), len(second))
    return np.bitwise_and(first[:num_words], second[:num_words])
