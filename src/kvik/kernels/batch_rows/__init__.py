"""The arrays of a step's batch, written where they stay: which token, at which position, into which slot."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvik.kernels.batch_rows import cpu, reference
from kvik.kernels.batch_rows.arrays import BatchArrays
from kvik.kernels.runtime import native

__all__ = ["BatchArrays", "batch_rows"]

Share = tuple[int, int, int, int]
"""A request's part of a batch: its row in the tables, first position, number of tokens, and for how many of its last
tokens logits are wanted."""


def batch_rows(
    shares: Sequence[Share],
    token_table: torch.Tensor,
    block_table: torch.Tensor,
    block_size: int,
    width: int,
    out: BatchArrays,
) -> None:
    """Write the batch of B requests to the fronts of `out`'s arrays; `BatchArrays` says what is in which.

    token_table [rows, max tokens] and block_table [rows, max blocks] int32: what is known of each request. `width`:
    columns of the batch's block tables. Raises ValueError where a share does not lie in the tables or the batch not in
    `out`.
    """
    rows, firsts, counts, num_logits = zip(*shares, strict=True)
    end = max(map(int.__add__, firsts, counts))
    if (
        min(rows) < 0
        or max(rows) >= token_table.shape[0]
        or min(firsts) < 0
        or min(counts) < 0
        or any(map(int.__gt__, num_logits, counts))
        or end > token_table.shape[1]
        or end > block_table.shape[1] * block_size
        or width > block_table.shape[1]
    ):
        raise ValueError(
            f"the shares {list(shares)} do not lie in tables of {list(token_table.shape)} tokens and "
            f"{list(block_table.shape)} blocks of {block_size}, or ask for more logits than they have tokens"
        )
    out.check_room(len(shares), sum(counts), len(shares) * width, sum(num_logits))
    fill = reference.batch_rows if native is None else cpu.batch_rows
    fill(shares, token_table, block_table, block_size, width, out)
