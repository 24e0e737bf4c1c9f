"""top_logprobs and token_logprobs against torch's log-softmax and Python's sort."""

from __future__ import annotations

import pytest
import torch

from kvik.kernels.logprobs import token_logprobs, top_logprobs

CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def random_logits(rows: int, vocab_size: int, *, ties: bool = False) -> torch.Tensor:
    logits = torch.randn(rows, vocab_size, generator=torch.Generator().manual_seed(vocab_size)) * 4
    return logits.round_() if ties else logits


def by_the_book(row: list[float]) -> list[int]:
    """Token ids from the best to the worst, ties by id."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("vocab_size", "k"), [(1, 0), (1, 1), (5, 5), (16, 3), (17, 17), (1000, 20), (5003, 100), (700, 700)]
)
@pytest.mark.usefixtures("backend")
def test_top(vocab_size, k, ties):
    logits = random_logits(4, vocab_size, ties=ties)
    chosen = torch.tensor([0, vocab_size - 1, vocab_size // 2, vocab_size // 3])
    ids, values, ranks = top_logprobs(logits, chosen, k)
    assert (ids.dtype, values.dtype, ranks.dtype) == (torch.int64, torch.float32, torch.int64)
    exact = torch.log_softmax(logits.double(), dim=-1)
    for r, row in enumerate(logits.tolist()):
        order = by_the_book(row)
        assert ids[r].tolist() == [int(chosen[r]), *order[:k]]
        assert ranks[r].tolist() == [order.index(int(chosen[r])) + 1, *range(1, k + 1)]
    torch.testing.assert_close(values.double(), exact.gather(1, ids), **CLOSE)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("ties", [False, True])
def test_given_tokens(ties):
    logits = random_logits(3, 2000, ties=ties)
    token_ids = torch.tensor([[1, 1999, 0, 1], [5, 6, 7, 8], [1000, 16, 17, 1998]])
    values, ranks = token_logprobs(logits, token_ids)
    torch.testing.assert_close(values.double(), torch.log_softmax(logits.double(), -1).gather(1, token_ids), **CLOSE)
    orders = [by_the_book(row) for row in logits.tolist()]
    assert ranks.tolist() == [[orders[r].index(i) + 1 for i in row] for r, row in enumerate(token_ids.tolist())]


def test_without_normalizing_the_values_are_the_logits():
    logits = random_logits(3, 50)
    ids, values, _ = top_logprobs(logits, torch.tensor([1, 2, 3]), 5, normalize=False)
    assert torch.equal(values, logits.gather(1, ids))
    assert torch.equal(token_logprobs(logits, ids, normalize=False)[0], values)


@pytest.mark.usefixtures("backend")
def test_ruled_out_tokens():
    logits = torch.full((1, 40), -torch.inf)
    logits[0, 3], logits[0, 30] = 2.0, 2.0
    ids, values, ranks = top_logprobs(logits, torch.tensor([30]), 4)
    assert ids.tolist() == [[30, 3, 30, 0, 1]]
    assert ranks.tolist() == [[2, 1, 2, 3, 4]]
    half = -0.6931471824645996
    torch.testing.assert_close(values, torch.tensor([[half, half, half, -torch.inf, -torch.inf]]))


def test_huge_logits_do_not_overflow():
    values = top_logprobs(torch.tensor([[3e38, 0.0, -3e38]]), torch.tensor([0]), 2)[1]
    torch.testing.assert_close(values, torch.tensor([[0.0, 0.0, -3e38]]))


@pytest.mark.usefixtures("backend")
def test_a_row_with_nan_fails_alone():
    logits = random_logits(3, 300)
    want = top_logprobs(logits, torch.tensor([1, 2, 3]), 8)
    logits[1, 200] = torch.nan
    got = top_logprobs(logits, torch.tensor([1, 2, 3]), 8)
    assert got[1][1].isnan().all()
    for before, after in zip(want, got, strict=True):
        assert torch.equal(before[[0, 2]], after[[0, 2]])


@pytest.mark.usefixtures("backend")
def test_a_row_does_not_depend_on_its_neighbours():
    logits = random_logits(9, 4001)
    chosen = torch.arange(9) * 100
    together = top_logprobs(logits, chosen, 10)
    for r in range(9):
        alone = top_logprobs(logits[r : r + 1], chosen[r : r + 1], 10)
        assert all(torch.equal(a[0], b[r]) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    ("chosen", "k", "message"),
    [
        ([0, 9], 1, "from 0 to 8, got .0, 9."),
        ([0, -1], 1, "from 0 to 8"),
        ([0, 1], 10, "k must be from 0 to the vocabulary's 9, got 10"),
        ([0], 1, "2 rows like the logits, got 1 rows"),
    ],
)
def test_says_what_does_not_fit(chosen, k, message):
    with pytest.raises(ValueError, match=message):
        top_logprobs(torch.zeros(2, 9), torch.tensor(chosen), k)
