"""Which tokens one request holds so far, and how often each was generated. Knows no logits.

Kept up to date token by token, so that penalties never read the history again; in numpy, where writing one number costs
a tenth of what it costs in torch.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

_FIRST_CAPACITY = 256


class TokenCounts:
    """Distinct tokens of prompt and output, each with its count in the output."""

    def __init__(self, prompt: Iterable[int], outputs: Iterable[int] = ()) -> None:
        self._index = {token_id: i for i, token_id in enumerate(dict.fromkeys(prompt))}
        self._ids = np.array(list(self._index), np.int64)
        self._counts = np.zeros(len(self._index), np.float32)
        self._reserve(_FIRST_CAPACITY)
        for token_id in outputs:
            self.add_output(token_id)

    def add_output(self, token_id: int) -> None:
        """Count one generated token."""
        i = self._index.setdefault(token_id, len(self._index))
        if i == len(self._ids):
            self._reserve(2 * i)
        self._ids[i] = token_id
        self._counts[i] += 1

    @property
    def token_ids(self) -> Tensor:
        """[n] int64, distinct, prompt tokens first."""
        return torch.from_numpy(self._ids[: len(self._index)])

    @property
    def output_counts(self) -> Tensor:
        """[n] fp32: how often each of `token_ids` was generated; 0 for one that only the prompt has."""
        return torch.from_numpy(self._counts[: len(self._index)])

    def _reserve(self, capacity: int) -> None:
        missing = max(0, capacity - len(self._ids))
        self._ids = np.append(self._ids, np.zeros(missing, np.int64))
        self._counts = np.append(self._counts, np.zeros(missing, np.float32))
