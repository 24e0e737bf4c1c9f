"""The token that each running request got last, where the device finds it before the host knows it.

A step that is built while the one before it is computed has -1 in place of the tokens that are still being chosen;
they are filled in here, on the device. Knows rows of tables, no request. Every method is a few plain torch operations
without a wait, so that a step's launch stays a launch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvik.runner.request_table import RequestRow
from kvik.step import ScheduledRequest

_NUM_INDICES = 16
"""Different lists of rows to remember: a step has three at most, which steps of the same requests repeat."""


class LastTokens:
    """One id per row of the request table, on the device that computes."""

    def __init__(self, max_num_seqs: int, device: torch.device | str = "cpu") -> None:
        self._token_ids = torch.zeros(max_num_seqs, dtype=torch.int32, device=device)
        self._indices: dict[tuple[int, ...], torch.Tensor] = {}
        """Of the last rows asked for: while the same requests decode, nothing is brought to the device."""

    def keep(self, table_rows: Sequence[int], token_ids: torch.Tensor) -> None:
        """token_ids [R], any integers, are what the requests in `table_rows` [R] got.

        -1, a request without a token, becomes 0: what is computed from it is dropped, but it must be a token.
        """
        self._token_ids.index_copy_(0, self._index(table_rows), token_ids.clamp(min=0).to(torch.int32))

    def fill(self, token_ids: torch.Tensor, places: Sequence[tuple[int, int]]) -> None:
        """Write what was kept into a batch's token_ids [T] int32; places: (row of the batch, row of the table)."""
        if places:
            batch_rows, table_rows = zip(*places, strict=True)
            token_ids.index_copy_(0, self._index(batch_rows), self._token_ids[self._index(table_rows)])

    def _index(self, rows: Sequence[int]) -> torch.Tensor:
        """rows [R] on the device. From pinned memory, as a copy from any other may wait for the work that is queued."""
        key = tuple(rows)
        index = self._indices.get(key)
        if index is None:
            if len(self._indices) >= _NUM_INDICES:
                self._indices.clear()
            host = torch.tensor(key, dtype=torch.int64, pin_memory=self._token_ids.is_cuda)
            index = self._indices[key] = host.to(self._token_ids.device, non_blocking=True)
        return index


def places_in_flight(shares: Sequence[ScheduledRequest], rows: Sequence[RequestRow]) -> list[tuple[int, int]]:
    """(row of the batch, row of the table) of each share's last token whose id the host does not know yet."""
    places, end = [], 0
    for share, row in zip(shares, rows, strict=True):
        end += share.num_scheduled_tokens
        if share.input_in_flight and share.num_computed_tokens + share.num_scheduled_tokens > row.num_tokens:
            places.append((end - 1, row.index))
    return places
