"""Logits of known tokens and drafts -> the tokens that each request got: drafts are kept as far as they came true.

At each position a token is sampled as without drafts, with the position's own random number; the next position counts
only if its input, the draft, is that token. So the tokens are those that would have come one by one.

A request without processors has all its positions sampled in one batch, since nothing there depends on the tokens
before. Others go position by position, each after the token before it was appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch

from kvik.runner.request_table import RequestRow, RequestTable
from kvik.sampling import SampledToken, Sampler, SamplingState, TokenMask


class _Stretch(NamedTuple):
    """Positions of one request that are sampled together."""

    request: int
    first_place: int
    """0 is the newest known token, 1 the first draft."""
    num_places: int


class Verifier:
    def __init__(self, table: RequestTable, sampler: Sampler) -> None:
        self._table = table
        self._sampler = sampler

    def sample(
        self,
        logits: torch.Tensor,
        rows: Sequence[RequestRow],
        drafts: Sequence[list[int]],
        masks: Sequence[TokenMask | None],
    ) -> list[list[SampledToken]]:
        """What each request got, one token or more, appended to its row; an error stands alone.

        logits [R, V] fp32, 1 + len(drafts[i]) rows for request i; their rows may be changed. masks[i] has as many rows.
        """
        taken: list[list[SampledToken]] = [[] for _ in rows]
        first_rows = [0, *accumulate(1 + len(draft) for draft in drafts)]
        stretches = [
            _Stretch(i, 0, 1 if row.sampling.processors else 1 + len(draft))
            for i, (row, draft) in enumerate(zip(rows, drafts, strict=True))
        ]
        while stretches:
            index = [first_rows[s.request] + p for s in stretches for p in _places(s)]
            chosen = logits if len(index) == len(logits) else logits[torch.tensor(index)]
            states = [state for s in stretches for state in _states(s, rows)]
            sampled = iter(self._sampler.sample(chosen, states, _masks(stretches, masks)))
            going_on = []
            for stretch in stretches:
                samples = [next(sampled) for _ in _places(stretch)]
                draft = drafts[stretch.request]
                if self._take(samples, draft[stretch.first_place :], rows[stretch.request], taken[stretch.request]):
                    going_on.append(_Stretch(stretch.request, stretch.first_place + stretch.num_places, 1))
            stretches = going_on
        return taken

    def _take(self, samples: list[SampledToken], drafts: list[int], row: RequestRow, taken: list[SampledToken]) -> bool:
        """Keep samples while their inputs were right. Whether the position after them can be sampled too."""
        for place, sample in enumerate(samples):
            if sample.error is not None:
                if not taken:
                    taken.append(sample)  # otherwise the next step meets it, as it would without drafts
                return False
            taken.append(sample)
            self._table.append_token(row, sample.token_id)
            if place >= len(drafts) or sample.token_id != drafts[place]:
                return False
        return True


def _places(stretch: _Stretch) -> range:
    return range(stretch.first_place, stretch.first_place + stretch.num_places)


def _masks(stretches: Sequence[_Stretch], masks: Sequence[TokenMask | None]) -> list[TokenMask | None] | None:
    """One per position; None as a whole where no request has any."""
    if all(mask is None for mask in masks):
        return None
    return [None if (mask := masks[s.request]) is None else mask[p] for s in stretches for p in _places(s)]


def _states(stretch: _Stretch, rows: Sequence[RequestRow]) -> list[SamplingState]:
    state = rows[stretch.request].sampling
    return [state.ahead(n) for n in range(stretch.num_places)]
