"""StepPlan -> ForwardBatch: which token, at which position, into which slot. One native call fills all arrays.

The arrays are made once and written every step, so a batch is good until the next one is built.
"""

from __future__ import annotations

import numpy as np
import torch

from kvik.kernels.batch_rows import BatchArrays, batch_rows
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.runner.request_table import RequestRow, RequestTable
from kvik.step import StepPlan


class BatchBuilder:
    def __init__(self, table: RequestTable, block_size: int, kv: list[LayerKV], arrays: BatchArrays) -> None:
        self._table = table
        self._token_table = torch.from_numpy(table.token_ids)
        self._block_table = torch.from_numpy(table.block_ids)
        self._block_size = block_size
        self._kv = kv
        self._arrays = arrays
        self._lora_slots = arrays.lora_slots.numpy()
        self._last: tuple[tuple[int, int, int, int, bool], ForwardBatch] | None = None

    def build(self, plan: StepPlan) -> tuple[ForwardBatch, list[RequestRow]]:
        """The batch, and the row of each scheduled request, in the plan's order."""
        rows = [self._table[s.request_id] for s in plan.scheduled]
        shares = []
        num_tokens = longest = num_logits_rows = 0
        for row, scheduled in zip(rows, plan.scheduled, strict=True):
            first, count, num_drafts = scheduled.num_computed_tokens, scheduled.num_scheduled_tokens, 0
            if scheduled.new_block_ids:
                self._table.append_blocks(row, scheduled.new_block_ids)
            if scheduled.draft_token_ids:
                num_drafts = scheduled.num_draft_tokens
                self._table.write_drafts(row, scheduled.draft_token_ids)
            end = first + count
            num_logits = 1 + num_drafts if end - num_drafts == row.num_sure_tokens else 0
            shares.append((row.index, first, count, num_logits))
            num_tokens += count
            num_logits_rows += num_logits
            if end > longest:
                longest = end
        width = -(-longest // self._block_size)
        batch_rows(shares, self._token_table, self._block_table, self._block_size, width, self._arrays)
        with_lora = any(row.lora_slot >= 0 for row in rows)
        if with_lora:
            self._write_lora_slots(rows, shares)
        return self._views(num_tokens, len(rows), width, num_logits_rows, with_lora), rows

    def _write_lora_slots(self, rows: list[RequestRow], shares: list[tuple[int, int, int, int]]) -> None:
        counts = [num_tokens for _, _, num_tokens, _ in shares]
        slots = np.repeat(np.array([row.lora_slot for row in rows], np.int32), counts)
        self._lora_slots[: len(slots)] = slots

    def _views(
        self, num_tokens: int, num_requests: int, width: int, num_logits_rows: int, with_lora: bool
    ) -> ForwardBatch:
        """The fronts of the arrays; those of the last step where the sizes are the same, as while decoding goes on."""
        sizes = (num_tokens, num_requests, width, num_logits_rows, with_lora)
        if self._last is None or self._last[0] != sizes:
            self._last = sizes, front_of(self._arrays, *sizes[:4], self._kv, with_lora=with_lora)
        return self._last[1]


def front_of(
    arrays: BatchArrays,
    num_tokens: int,
    num_requests: int,
    width: int,
    num_logits_rows: int,
    kv: list[LayerKV],
    *,
    with_lora: bool = False,
) -> ForwardBatch:
    """The batch of these sizes that lies in the arrays; `with_lora`: rows may have adapters."""
    return ForwardBatch(
        token_ids=arrays.token_ids[:num_tokens],
        positions=arrays.positions[:num_tokens],
        slot_mapping=arrays.slot_mapping[:num_tokens],
        query_start_loc=arrays.query_start_loc[: num_requests + 1],
        seq_lens=arrays.seq_lens[:num_requests],
        block_tables=arrays.block_tables[: num_requests * width].view(num_requests, width),
        logits_rows=arrays.logits_rows[:num_logits_rows],
        kv=kv,
        lora_slots=arrays.lora_slots[:num_tokens] if with_lora else None,
    )
