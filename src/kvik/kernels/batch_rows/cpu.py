"""batch_rows by `kvik._native`. Bounds were checked by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch

from kvik.kernels.batch_rows.arrays import BatchArrays
from kvik.kernels.runtime import native


def batch_rows(
    shares: Sequence[tuple[int, int, int, int]],
    token_table: torch.Tensor,
    block_table: torch.Tensor,
    block_size: int,
    width: int,
    out: BatchArrays,
) -> None:
    out.shares[: 4 * len(shares)] = list(chain.from_iterable(shares))
    native.batch_rows(
        out.shares_address, len(shares), width, block_size, token_table.data_ptr(), token_table.stride(0),
        block_table.data_ptr(), block_table.stride(0), *out.addresses,
    )  # fmt: skip
