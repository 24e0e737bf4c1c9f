"""edit_logits against plain additions, row by row."""

from __future__ import annotations

import pytest
import torch

from kvik.kernels.logit_edits import edit_logits

INF = float("inf")


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize("counts", [[3, 0, 200], [1], [0], []], ids=str)
def test_each_row_gets_its_own(counts: list[int], backend: str) -> None:
    size = 301
    logits = torch.randn(5, size, generator=torch.Generator().manual_seed(3))
    rows = ints(4, 0, 2)[: len(counts)]
    which = [torch.randperm(size, generator=torch.Generator().manual_seed(n))[:n] for n in counts]
    values = [torch.where(torch.arange(n) % 3 == 1, -INF, torch.arange(n) / 8) for n in counts]
    got, expected = logits.clone(), logits.clone()
    for row, ids, added in zip(rows.tolist(), which, values, strict=True):
        expected[row, ids] += added
    starts = ints(*torch.tensor([0, *counts]).cumsum(0).tolist())
    flat = torch.cat([torch.zeros(0), *values])
    edit_logits(got, rows, starts, torch.cat([torch.zeros(0), *which]).int(), flat)
    assert torch.equal(got, expected)


def test_what_is_ruled_out_is_out_whatever_it_was(backend: str) -> None:
    logits = torch.tensor([[INF, float("nan"), 1.0, -INF]])
    edit_logits(logits, ints(0), ints(0, 4), ints(0, 1, 2, 3), torch.tensor([-INF, -INF, -INF, 2.0]))
    assert logits.tolist() == [[-INF] * 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": torch.zeros(2, 4, dtype=torch.float64)}, r"logits must be \[R, V\] float32"),
        ({"rows": torch.zeros(1)}, "rows must be one-dimensional int32"),
        ({"starts": ints(0)}, r"starts must be \[2\]"),
        ({"values": torch.zeros(3)}, r"values must be \[2\] float32, got \[3\]"),
    ],
)
def test_says_what_does_not_fit(change: dict[str, torch.Tensor], message: str) -> None:
    given = {"logits": torch.zeros(2, 4), "rows": ints(0), "starts": ints(0, 2), "token_ids": ints(1, 2)}
    with pytest.raises(ValueError, match=message):
        edit_logits(**(given | {"values": torch.zeros(2)} | change))
