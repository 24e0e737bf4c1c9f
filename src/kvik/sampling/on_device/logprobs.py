"""Log probabilities for those rows of a batch that want them: computed with the step, told with its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kvik.kernels.logprobs import token_logprobs, top_logprobs
from kvik.messages import TokenLogprobs
from kvik.sampling.columns import Columns
from kvik.sampling.filters import after_filters
from kvik.sampling.gather import add_tokens, record_of
from kvik.sampling.logprobs_mode import LogprobsKind
from kvik.sampling.on_device.parcel import send
from kvik.sampling.state import SamplingState


class _Best(NamedTuple):
    """Rows that want as many best tokens beside the chosen one."""

    places: tuple[int, ...]
    """Among the rows that want log probabilities."""
    rows: Tensor
    """The same on the device, int64."""
    k: int


class _Given(NamedTuple):
    """The tokens that one row names."""

    place: int
    token_ids: Tensor
    """[1, n] int64 on the device."""


class WantedLogprobs:
    """Of one batch. `copy_raw` and `tell` once per step; `records` when what was told is on the host."""

    def __init__(self, states: Sequence[SamplingState], columns: Columns, kind: LogprobsKind, vocab_size: int) -> None:
        self.rows = [r for r, state in enumerate(states) if state.wants_logprobs]
        self._kind = kind
        self._is_whole_batch = len(self.rows) == len(states)
        place = columns.seeds.device
        wanting = [states[r] for r in self.rows]
        by_count: dict[int, list[int]] = {}
        for at, state in enumerate(wanting):
            by_count.setdefault(min(state.num_logprobs, vocab_size), []).append(at)
        named = {at: list(dict.fromkeys(ids)) for at, s in enumerate(wanting) if (ids := s.params.logprob_token_ids)}
        arrays = [self.rows, *by_count.values(), *([ids] for ids in named.values())]
        self._index, *parts = send([np.array(array, np.int64) for array in arrays], place)
        self._best = [_Best(tuple(at), which, k) for (k, at), which in zip(by_count.items(), parts, strict=False)]
        self._given = [_Given(at, ids) for at, ids in zip(named, parts[len(by_count) :], strict=True)]
        self._filters = [column[self._index] for column in columns.filters]

    def copy_raw(self, logits: Tensor) -> Tensor | None:
        """The rows of logits [R, V] as the model made them, if they are what is told."""
        return logits[self._index] if self._kind.raw and self.rows else None

    def tell(self, logits: Tensor, raw: Tensor | None, token_ids: Tensor) -> list[Tensor]:
        """Flat int64, what `records` reads. token_ids [R] were chosen; raw: None if logits [R, V] are raw."""
        if not self.rows:
            return []
        values = self._values(logits) if raw is None else raw
        chosen = token_ids[self._index].clamp(min=0)
        columns: list[Tensor] = []
        for _, which, k in self._best:
            rows = values if len(which) == len(values) else values[which]
            columns += top_logprobs(rows, chosen[which], k, normalize=self._kind.normalize)
        for place, given in self._given:
            columns += given, *token_logprobs(values[place : place + 1], given, normalize=self._kind.normalize)
        return [_as_int64(column).flatten() for column in columns]

    def records(self, told: npt.NDArray[np.int64]) -> list[TokenLogprobs]:
        """One per row of `rows`."""
        records: list[TokenLogprobs] = [TokenLogprobs([], [], [])] * len(self.rows)
        for places, _, k in self._best:
            size = 3 * len(places) * (1 + k)
            for place, row in zip(places, _rows(told[:size], len(places)), strict=True):
                records[place] = record_of(*row)
            told = told[size:]
        for place, given in self._given:
            size = 3 * given.shape[1]
            add_tokens(records[place], *_rows(told[:size], 1)[0])
            told = told[size:]
        return records

    def _values(self, logits: Tensor) -> Tensor:
        """The logits [len(rows), V] that the mode reports."""
        rows = logits if self._is_whole_batch else logits[self._index]
        return rows if self._kind.raw else after_filters(rows, *self._filters)


def _as_int64(tensor: Tensor) -> Tensor:
    """Floats by their bits, so that one copy can hold all."""
    return tensor.contiguous().view(torch.int32).long() if tensor.is_floating_point() else tensor


def _rows(told: npt.NDArray[np.int64], num_rows: int) -> list[tuple[list[int], list[float], list[int]]]:
    """Of each row its ids, values and ranks."""
    ids, values, ranks = told.reshape(3, num_rows, -1)
    floats: list[list[float]] = values.astype(np.int32).view(np.float32).tolist()
    return list(zip(ids.tolist(), floats, ranks.tolist(), strict=True))
