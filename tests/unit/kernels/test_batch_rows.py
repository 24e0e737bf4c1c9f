"""batch_rows: the native kernel against plain torch, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvik.kernels.batch_rows import BatchArrays, batch_rows, cpu, reference
from kvik.kernels.runtime import native

BLOCK, ROWS, TOKENS = 4, 5, 24
TOKEN_TABLE = torch.arange(ROWS * TOKENS, dtype=torch.int32).view(ROWS, TOKENS)
BLOCK_TABLE = torch.randperm(ROWS * TOKENS // BLOCK, generator=torch.Generator().manual_seed(0)).int().view(ROWS, -1)


def filled(fill: object, shares: list[tuple[int, int, int, int]], width: int) -> list[list[int]]:
    """The arrays after `fill`, with -1 wherever it wrote nothing."""
    out = BatchArrays(ROWS * TOKENS, ROWS, TOKENS // BLOCK, ROWS * TOKENS)
    for tensor in out.tensors():
        tensor.fill_(-1)
    fill(shares, TOKEN_TABLE, BLOCK_TABLE, BLOCK, width, out)  # type: ignore[operator]
    return [tensor.tolist() for tensor in out.tensors()]


@pytest.mark.skipif(native is None, reason="no native build")
@given(st.data())
def test_native_writes_what_plain_torch_writes(data: st.DataObject) -> None:
    shares = []
    for row in data.draw(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS, unique=True)):
        first = data.draw(st.integers(0, TOKENS - 1))
        count = data.draw(st.integers(1, TOKENS - first))
        shares.append((row, first, count, data.draw(st.integers(0, count))))
    width = -(-max(first + count for _, first, count, _ in shares) // BLOCK)
    assert filled(cpu.batch_rows, shares, width) == filled(reference.batch_rows, shares, width)


@pytest.mark.parametrize(
    "share", [(5, 0, 1, 1), (-1, 0, 1, 1), (0, -1, 1, 1), (0, 20, 5, 1), (0, 0, -1, 0), (0, 0, 2, 3)]
)
def test_a_share_outside_the_tables_is_refused(share: tuple[int, int, int, int]) -> None:
    out = BatchArrays(64, 4, 6, 4)
    with pytest.raises(ValueError, match="do not lie in tables"):
        batch_rows([share], TOKEN_TABLE, BLOCK_TABLE, BLOCK, 1, out)


@pytest.mark.parametrize("sizes", [(3, 2, 6, 2), (64, 1, 6, 2), (64, 2, 1, 2), (64, 2, 6, 1)])
def test_a_batch_larger_than_the_arrays_is_refused(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="does not fit in arrays"):
        batch_rows([(0, 0, 2, 1), (1, 0, 2, 1)], TOKEN_TABLE, BLOCK_TABLE, BLOCK, 2, BatchArrays(*sizes))
