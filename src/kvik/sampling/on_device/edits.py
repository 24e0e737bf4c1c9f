"""Numbers added to single logits of rows of a batch: logit_bias, and -inf for bad words and for what min_tokens holds
back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kvik.kernels.logit_edits import edit_logits
from kvik.sampling.chooser import RunningRow
from kvik.sampling.on_device.parcel import send
from kvik.sampling.on_device.wishes import Edits, Wishes


class LogitEdits:
    """Of one batch of rows. `apply` once per step."""

    def __init__(self, rows: Sequence[RunningRow], wishes: Sequence[Wishes], place: torch.device) -> None:
        pairs = zip(rows, wishes, strict=True)
        self._editing = [(r, row, wish) for r, (row, wish) in enumerate(pairs) if wish.has_edits]
        self._place = place
        self._last: list[Edits] = []
        self._sent: list[Tensor] = []

    def apply(self, logits: Tensor) -> None:
        """Edit logits [R, V]. The edits go to the device again only where one row's have changed."""
        if not self._editing:
            return
        edits = [wish.edits(row.sampling.token_ids, row.num_awaited_tokens) for _, row, wish in self._editing]
        if len(edits) != len(self._last) or any(e is not last for e, last in zip(edits, self._last, strict=True)):
            self._last, self._sent = edits, self._send(edits)
        edit_logits(logits, *self._sent)

    def _send(self, edits: Sequence[Edits]) -> list[Tensor]:
        rows = np.array([r for r, _, _ in self._editing], np.int32)
        starts = np.cumsum([0, *(len(e.token_ids) for e in edits)], dtype=np.int32)
        token_ids, values = (np.concatenate(parts) for parts in zip(*edits, strict=True))
        return send([rows, starts, token_ids, values], self._place)
