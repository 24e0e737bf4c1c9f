"""The stages of one step on the device, in the order of the field's pipeline.

What a batch of rows asks is sent when its rows are others than the step's before; while the same requests go on
decoding, only what changes is sent: masks of grammars, and edits that come or go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kvik.kernels.sample import arg_max, sample
from kvik.sampling.chooser import Chosen, OnItsWay, RunningRow
from kvik.sampling.columns import columns_of
from kvik.sampling.gather import is_sound
from kvik.sampling.logprobs_mode import LogprobsKind, kind_of
from kvik.sampling.on_device.edits import LogitEdits
from kvik.sampling.on_device.logprobs import WantedLogprobs
from kvik.sampling.on_device.masks import Masks
from kvik.sampling.on_device.parcel import send
from kvik.sampling.on_device.penalties import CountTable, RowPenalties
from kvik.sampling.on_device.wishes import Wishes
from kvik.sampling.sampled_token import FAILED, SampledToken, without_token
from kvik.sampling.token_mask import TokenMask


class DeviceSampler:
    """A `Chooser` for logits on a GPU. Steps must be chosen for in the order in which they are computed."""

    def __init__(
        self,
        place: torch.device,
        to_host: Callable[[Tensor], OnItsWay],
        logprobs_mode: str,
        max_num_seqs: int,
        vocab_size: int,
    ) -> None:
        """`to_host` begins to bring a flat int64 tensor. Raises `ConfigError` for a mode that is none."""
        self._place = place
        self._to_host = to_host
        self._kind = kind_of(logprobs_mode)
        self._vocab_size = vocab_size
        self._table = CountTable(max_num_seqs, vocab_size, place)
        self._wishes: list[tuple[RunningRow, Wishes] | None] = [None] * max_num_seqs
        self._rows: list[RunningRow] = []
        self._batch: _Batch | None = None

    def choose(self, logits: Tensor, rows: Sequence[RunningRow], grammars: Sequence[TokenMask | None]) -> Chosen:
        """See `Chooser`."""
        batch = self._batch
        if batch is None or self._rows != rows:
            self._rows = list(rows)
            batch = self._batch = self._batch_of(self._rows)
        token_ids, told = batch.choose(logits, grammars)
        return Chosen(token_ids, self._to_host(told), batch.samples)

    def forget_rows(self) -> None:
        self._batch = None

    def _batch_of(self, rows: list[RunningRow]) -> _Batch:
        wishes = [self._wishes_of(row) for row in rows]
        penalties = RowPenalties(rows, wishes, self._table, self._place)
        return _Batch(rows, wishes, penalties, self._kind, self._vocab_size, self._place)

    def _wishes_of(self, row: RunningRow) -> Wishes:
        """Made once for a request; the next one that gets its row of the table takes their place."""
        known = self._wishes[row.index]
        if known is None or known[0] is not row:
            known = self._wishes[row.index] = row, Wishes(row.sampling, self._vocab_size)
        return known[1]


class _Batch:
    """Rows that are chosen for together, as long as each gets one token per step."""

    def __init__(
        self,
        rows: list[RunningRow],
        wishes: list[Wishes],
        penalties: RowPenalties,
        kind: LogprobsKind,
        vocab_size: int,
        place: torch.device,
    ) -> None:
        states = [row.sampling.ahead(row.num_awaited_tokens) for row in rows]
        self._states = [row.sampling for row in rows]
        self._is_greedy = all(state.params.is_greedy for state in states)
        self._columns = columns_of(states, place)
        self._masks = Masks([wish.allowed for wish in wishes], place)
        self._edits = LogitEdits(rows, wishes, place)
        self._penalties = penalties
        self._logprobs = WantedLogprobs(states, self._columns, kind, vocab_size)
        self._has_wishes = any(state.processors for state in states)
        self._excluding = [r for r, state in enumerate(states) if state.excluding_fields]
        self._excluding_rows = send([np.array(self._excluding, np.int64)], place)[0]

    def choose(self, logits: Tensor, grammars: Sequence[TokenMask | None]) -> tuple[Tensor, Tensor]:
        """Tokens [R] int64 of logits [R, V], and all that `samples` reads, flat int64."""
        is_changed = self._has_wishes or any(mask is not None for mask in grammars)
        raw = self._logprobs.copy_raw(logits) if is_changed else None
        self._masks.apply(logits, grammars)
        self._edits.apply(logits)
        self._penalties.apply(logits)
        token_ids = self._draw(logits)
        self._penalties.count(token_ids)
        told = [token_ids, *self._ruled_out(logits), *self._logprobs.tell(logits, raw, token_ids)]
        return token_ids, torch.cat(told) if len(told) > 1 else token_ids

    def samples(self, told: npt.NDArray[np.int64]) -> list[SampledToken]:
        """[R]."""
        num_rows = len(self._states)
        token_ids, told = told[:num_rows].tolist(), told[num_rows:]
        is_ruled_out = dict(zip(self._excluding, told.tolist(), strict=False))
        samples = [
            SampledToken(token_id, None, None)
            if token_id >= 0
            else without_token(state.excluding_fields, is_ruled_out=bool(is_ruled_out.get(r)))
            for r, (token_id, state) in enumerate(zip(token_ids, self._states, strict=True))
        ]
        records = self._logprobs.records(told[len(self._excluding) :])
        for r, record in zip(self._logprobs.rows, records, strict=True):
            if samples[r].error is None:
                samples[r] = samples[r]._replace(logprobs=record) if is_sound(record) else FAILED
        return samples

    def _draw(self, logits: Tensor) -> Tensor:
        if self._is_greedy:
            return arg_max(logits)
        token_ids = sample(logits, *self._columns)
        self._columns.positions.add_(1)
        return token_ids

    def _ruled_out(self, logits: Tensor) -> list[Tensor]:
        """Of the rows of requests that exclude tokens: whether all are."""
        return [(logits[self._excluding_rows].amax(1) == -torch.inf).long()] if self._excluding else []
