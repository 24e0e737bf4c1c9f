"""batch_rows in plain torch, a request at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvik.kernels.batch_rows.arrays import BatchArrays


def batch_rows(
    shares: Sequence[tuple[int, int, int, int]],
    token_table: torch.Tensor,
    block_table: torch.Tensor,
    block_size: int,
    width: int,
    out: BatchArrays,
) -> None:
    row = num_logits_rows = 0
    for b, (at, first, count, num_logits) in enumerate(shares):
        positions = torch.arange(first, first + count, dtype=torch.int32)
        blocks = block_table[at, positions // block_size]
        end = row + count
        out.token_ids[row:end] = token_table[at, first : first + count]
        out.positions[row:end] = positions
        out.slot_mapping[row:end] = blocks * block_size + positions % block_size
        out.query_start_loc[b : b + 2] = torch.tensor([row, end])
        out.seq_lens[b] = first + count
        out.block_tables[b * width : (b + 1) * width] = block_table[at, :width]
        out.logits_rows[num_logits_rows : num_logits_rows + num_logits] = torch.arange(end - num_logits, end)
        row, num_logits_rows = end, num_logits_rows + num_logits
