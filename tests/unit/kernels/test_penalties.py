"""penalize and count_tokens against the formula, token by token, and against each other's counts."""

from __future__ import annotations

import pytest
import torch

from kvik.kernels.penalties import COUNT_ONE, IN_PROMPT, count_tokens, penalize, reference

V = 133
PENALTIES = [(1.3, 0.0, 0.0), (1.0, 0.7, 0.0), (1.0, 0.0, -1.1), (0.7, 0.3, 0.9)]
"""Repetition, frequency, presence."""


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def held(num_slots: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    times = torch.randint(-3, 4, (num_slots, V), generator=generator).clamp(min=0)
    in_prompt = torch.randint(0, 2, (num_slots, V), generator=generator)
    return (times * COUNT_ONE + in_prompt * IN_PROMPT).int()


def lowered(row: torch.Tensor, counts: torch.Tensor, repetition: float, frequency: float, presence: float) -> list:
    values = []
    for x, count in zip(row.tolist(), counts.tolist(), strict=True):
        if count:
            x = x / repetition if x > 0 else x * repetition
        times = count // COUNT_ONE
        values.append(x - frequency * times - presence * (times > 0))
    return values


def test_the_formula(backend: str) -> None:
    logits = torch.randn(6, V, generator=torch.Generator().manual_seed(1)) * 4
    logits[2, 7] = -torch.inf
    counts, rows, slots = held(5), ints(5, 0, 2, 3), ints(1, 4, 3, 0)
    columns = [torch.tensor(column) for column in zip(*PENALTIES, strict=True)]
    got, same = logits.clone(), logits.clone()
    penalize(got, rows, slots, counts, *columns)
    reference.penalize(same, rows, slots, counts, *columns)
    assert torch.equal(got, same)
    assert torch.equal(got[[1, 4]], logits[[1, 4]])
    for n, penalties in enumerate(PENALTIES):
        expected = lowered(logits[int(rows[n])], counts[int(slots[n])], *penalties)
        torch.testing.assert_close(got[int(rows[n])], torch.tensor(expected), rtol=1e-6, atol=1e-6)


def test_a_token_is_counted_where_it_was_chosen(backend: str) -> None:
    counts, expected = held(4), held(4)
    chosen = torch.tensor([9, -1, 132, 0])
    count_tokens(counts, ints(3, 0, 1), ints(0, 1, 2), chosen)
    expected[3, 9] += COUNT_ONE
    expected[1, 132] += COUNT_ONE
    assert torch.equal(counts, expected)


def test_nobody_is_penalised(backend: str) -> None:
    logits, counts = torch.ones(2, V), torch.ones(1, V, dtype=torch.int32)
    penalize(logits, ints(), ints(), counts, *torch.zeros(3, 0))
    count_tokens(counts, ints(), ints(), torch.tensor([1, 2]))
    assert torch.equal(logits, torch.ones(2, V))
    assert torch.equal(counts, torch.ones(1, V, dtype=torch.int32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": torch.zeros(V)}, "logits must be 2-dimensional"),
        ({"counts": torch.zeros(1, 9, dtype=torch.int32)}, rf"counts must be \[S, {V}\], .* got \[1, 9\]"),
        ({"slots": ints(0, 1)}, r"slots must be \[1\] torch.int32, got \[2\]"),
        ({"frequency": torch.zeros(1).double()}, r"frequency must be \[1\] torch.float32"),
    ],
)
def test_says_what_does_not_fit(change: dict[str, torch.Tensor], message: str) -> None:
    given = {"logits": torch.zeros(2, V), "rows": ints(0), "slots": ints(0), "counts": held(1)}
    given |= {name: torch.ones(1) for name in ("repetition", "frequency", "presence")}
    with pytest.raises(ValueError, match=message):
        penalize(**(given | change))
