"""Where a step's batch lies: arrays made once, so that kernels find each step's numbers at the same addresses."""

from __future__ import annotations

import numpy as np
import torch


class BatchArrays:
    """int32 on the CPU. A batch of T tokens and B requests takes the front of each; the rest keeps what it held."""

    __slots__ = (
        "addresses",
        "block_tables",
        "logits_rows",
        "lora_slots",
        "positions",
        "query_start_loc",
        "seq_lens",
        "shares",
        "shares_address",
        "slot_mapping",
        "token_ids",
    )

    def __init__(self, max_tokens: int, max_requests: int, max_blocks: int, max_logits_rows: int) -> None:
        """`max_blocks`: of one request."""

        def int32(size: int) -> torch.Tensor:
            return torch.from_numpy(np.zeros(size, np.int32))  # pages that no step needs are never touched

        self.token_ids = int32(max_tokens)  # [T]
        self.positions = int32(max_tokens)  # [T], absolute in the request
        self.slot_mapping = int32(max_tokens)  # [T], block id x block size + offset in the block
        self.query_start_loc = int32(max_requests + 1)  # [B + 1], the first row of each request, then T
        self.seq_lens = int32(max_requests)  # [B], tokens of the request at the end of the step
        self.block_tables = int32(max_requests * max_blocks)  # [B, width], rows without a gap
        self.logits_rows = int32(max_logits_rows)  # [R], rows whose logits are wanted
        self.lora_slots = int32(max_tokens)  # [T], the slot of the row's adapter, -1: none; written where one is in use
        self.shares = np.zeros(4 * max_requests, np.int32)  # what the native kernel is told of each request
        self.shares_address: int = self.shares.ctypes.data
        self.addresses = tuple(tensor.data_ptr() for tensor in self.tensors())

    def tensors(self) -> list[torch.Tensor]:
        """The arrays that are written in every step, in the order of the native signature."""
        return [
            self.token_ids, self.positions, self.slot_mapping, self.query_start_loc, self.seq_lens, self.block_tables,
            self.logits_rows,
        ]  # fmt: skip

    def check_room(self, num_requests: int, num_tokens: int, num_table_entries: int, num_logits_rows: int) -> None:
        """Raises ValueError where a batch of these sizes has no room."""
        if (
            num_tokens > self.token_ids.shape[0]
            or num_requests > self.seq_lens.shape[0]
            or num_table_entries > self.block_tables.shape[0]
            or num_logits_rows > self.logits_rows.shape[0]
        ):
            raise ValueError(
                f"a batch of {num_requests} requests, {num_tokens} tokens, {num_table_entries} block table entries and "
                f"{num_logits_rows} rows of logits does not fit in arrays for {self.seq_lens.shape[0]}, "
                f"{self.token_ids.shape[0]}, {self.block_tables.shape[0]} and {self.logits_rows.shape[0]}"
            )
