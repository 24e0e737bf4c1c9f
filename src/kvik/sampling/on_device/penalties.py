"""Penalties of rows of a batch, by counts of their tokens that are kept where the tokens are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kvik.kernels.penalties import COUNT_ONE, IN_PROMPT, count_tokens, penalize
from kvik.sampling.chooser import RunningRow
from kvik.sampling.on_device.parcel import send
from kvik.sampling.on_device.wishes import Wishes
from kvik.sampling.state import SamplingState


class _Counted(NamedTuple):
    state: SamplingState
    num_tokens: int


class CountTable:
    """Counts [rows of the request table, V] int32 as `kvik.kernels.penalties` reads them. Writes them alone."""

    def __init__(self, max_num_seqs: int, vocab_size: int, place: torch.device) -> None:
        self.counts = torch.zeros(max_num_seqs, vocab_size, dtype=torch.int32, device=place)
        self._counted: list[_Counted | None] = [None] * max_num_seqs

    def catch_up(self, rows: Sequence[RunningRow]) -> None:
        """Count what rows have and was not counted here: all of a new request, or tokens that came on another way."""
        behind = [row for row in rows if self._num_counted(row) < _num_tokens(row)]
        if not behind:
            return
        new = np.array([row.index for row in behind if not self._num_counted(row)], np.int64)
        parts = [_counts_of(row.sampling, self._num_counted(row)) for row in behind]
        slots = np.repeat(np.array([row.index for row in behind], np.int64), [len(ids) for ids, _ in parts])
        token_ids, counts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        emptied, *where, added = send([new, slots, token_ids, counts], self.counts.device)
        self.counts.index_fill_(0, emptied, 0)
        self.counts.index_put_(tuple(where), added, accumulate=True)
        self._note(behind, 0)

    def count(self, rows: Sequence[RunningRow], slots: Tensor, batch_rows: Tensor, token_ids: Tensor) -> None:
        """token_ids[batch_rows[n]] was chosen for rows[n], whose row of the table is slots[n]."""
        count_tokens(self.counts, slots, batch_rows, token_ids)
        self._note(rows, 1)

    def _num_counted(self, row: RunningRow) -> int:
        """0 for a request whose row was another's until now."""
        counted = self._counted[row.index]
        return counted.num_tokens if counted is not None and counted.state is row.sampling else 0

    def _note(self, rows: Sequence[RunningRow], num_more: int) -> None:
        for row in rows:
            self._counted[row.index] = _Counted(row.sampling, _num_tokens(row) + num_more)


class RowPenalties:
    """Of one batch of rows."""

    def __init__(
        self, rows: Sequence[RunningRow], wishes: Sequence[Wishes], table: CountTable, place: torch.device
    ) -> None:
        penalized = [(r, row, p) for r, row in enumerate(rows) if (p := wishes[r].penalties) is not None]
        self._rows = [row for _, row, _ in penalized]
        self._table = table
        if penalized:
            table.catch_up(self._rows)
            floats = [(p.repetition, p.frequency, p.presence) for _, _, p in penalized]
            self._batch_rows, self._slots, *self._penalties = send(
                [
                    np.array([r for r, _, _ in penalized], np.int32),
                    np.array([row.index for row in self._rows], np.int32),
                    *np.array(floats, np.float32).T,
                ],
                place,
            )

    def apply(self, logits: Tensor) -> None:
        """Lower logits [R, V]."""
        if self._rows:
            penalize(logits, self._batch_rows, self._slots, self._table.counts, *self._penalties)

    def count(self, token_ids: Tensor) -> None:
        """token_ids [R] int64 were chosen."""
        if self._rows:
            self._table.count(self._rows, self._slots, self._batch_rows, token_ids)


def _num_tokens(row: RunningRow) -> int:
    return len(row.sampling.token_ids) + row.num_awaited_tokens


def _counts_of(state: SamplingState, num_counted: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Distinct tokens behind the first `num_counted`, and what they add to the counts."""
    uncounted = np.array(state.token_ids[num_counted:], np.int64)
    num_prompt = max(0, state.num_prompt_tokens - num_counted)
    token_ids, place = np.unique(uncounted, return_inverse=True)
    counts = COUNT_ONE * np.bincount(place[num_prompt:], minlength=len(token_ids)).astype(np.int32)
    counts[place[:num_prompt]] |= IN_PROMPT
    return token_ids, counts
