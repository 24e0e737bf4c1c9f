"""StepPlan -> ForwardBatch: which token, at which position, into which slot, for all rows at once.

Everything is computed by whole-array operations; no Python loop runs over tokens.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.runner.request_table import RequestRow, RequestTable
from kvik.step import StepPlan


class BatchBuilder:
    def __init__(self, table: RequestTable, block_size: int, kv: list[LayerKV]) -> None:
        self._table = table
        self._block_size = block_size
        self._kv = kv

    def build(self, plan: StepPlan) -> tuple[ForwardBatch, list[RequestRow]]:
        """The batch, and the row of each scheduled request, in the plan's order."""
        rows = [self._table[s.request_id] for s in plan.scheduled]
        for row, scheduled in zip(rows, plan.scheduled, strict=True):
            self._table.append_blocks(row, scheduled.new_block_ids)
            self._table.write_drafts(row, scheduled.draft_token_ids)
        return self._arrays(plan, rows), rows

    def _arrays(self, plan: StepPlan, rows: list[RequestRow]) -> ForwardBatch:
        index = np.array([row.index for row in rows], np.int64)
        start = np.array([s.num_computed_tokens for s in plan.scheduled], np.int32)
        count = np.array([s.num_scheduled_tokens for s in plan.scheduled], np.int32)
        num_drafts = np.array([s.num_draft_tokens for s in plan.scheduled], np.int32)
        num_tokens = np.array([row.num_tokens for row in rows], np.int32)

        query_start_loc = np.zeros(len(rows) + 1, np.int32)
        np.cumsum(count, out=query_start_loc[1:])
        total = int(query_start_loc[-1])
        token_row = np.repeat(index, count)
        positions = np.arange(total, dtype=np.int32) + np.repeat(start - query_start_loc[:-1], count)
        blocks = self._table.block_ids[token_row, positions // self._block_size]
        reaches_end = start + count == num_tokens + num_drafts
        width = int(-(-(start + count).max() // self._block_size))

        return ForwardBatch(
            token_ids=torch.from_numpy(self._table.token_ids[token_row, positions]),
            positions=torch.from_numpy(positions),
            slot_mapping=torch.from_numpy(blocks * np.int32(self._block_size) + positions % self._block_size),
            query_start_loc=torch.from_numpy(query_start_loc),
            seq_lens=torch.from_numpy(start + count),
            block_tables=torch.from_numpy(np.ascontiguousarray(self._table.block_ids[index, :width])),
            logits_rows=torch.from_numpy(_last_rows(query_start_loc[1:][reaches_end], num_drafts[reaches_end] + 1)),
            kv=self._kv,
        )


def _last_rows(ends: npt.NDArray[np.int32], counts: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """For each end, the `count` numbers below it, ascending."""
    starts = ends - counts - (np.cumsum(counts, dtype=np.int32) - counts)
    return np.repeat(starts, counts) + np.arange(counts.sum(), dtype=np.int32)
