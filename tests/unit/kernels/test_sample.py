"""sample: the definition, a literal reading of it in Python, and frequencies."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.kernels.sample import arg_max, kept_tokens, reference, sample
from kvik.kernels.sample.philox import random_word64

INF = float("inf")


def choose(logits, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seeds=0, positions=0, fn=sample):
    """`sample` with each parameter given once or per row."""
    kinds = (
        (temperature, torch.float32), (top_k, torch.int32), (top_p, torch.float32), (min_p, torch.float32),
        (seeds, torch.int64), (positions, torch.int64),
    )  # fmt: skip
    columns = [torch.as_tensor(value, dtype=dtype).expand(len(logits)).contiguous() for value, dtype in kinds]
    return fn(logits, *columns)


def random_logits(rows: int, vocab_size: int, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, vocab_size, generator=torch.Generator().manual_seed(seed)) * spread


def token_by_the_book(row: list[float], t: float, top_k: int, top_p: float, min_p: float, word: int) -> int:
    """The docstring of `kvik.kernels.sample`, in fp64 and whole numbers."""
    scaled = [(x - max(row)) / t for x in row]
    weights = [math.floor(math.exp(z) * 2**40) for z in scaled]
    ranked = sorted((-z, i) for i, z in enumerate(scaled) if weights[i] and (not min_p or z >= math.log(min_p)))
    ranked = ranked[:top_k] if top_k > 0 else ranked
    total, before, kept = sum(weights[i] for _, i in ranked), 0, []
    for _, i in ranked:
        if before >= math.ceil(top_p * total):
            break
        kept.append(i)
        before += weights[i]
    target = word * sum(weights[i] for i in kept) >> 64
    for i in sorted(kept):
        target -= weights[i]
        if target < 0:
            return i
    raise AssertionError("the target lies within the total")


@settings(max_examples=200, deadline=None)
@given(
    row=st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=40),
    temperature=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    top_k=st.integers(-1, 45),
    top_p=st.sampled_from([0.015625, 0.5, 0.75, 0.875, 1.0]),
    min_p=st.sampled_from([0.0, 0.03125, 0.25, 1.0]),
    seed=st.integers(-(2**63), 2**63 - 1),
    position=st.integers(0, 2**40),
)
def test_by_the_book(row, temperature, top_k, top_p, min_p, seed, position):
    logits = torch.tensor([row])
    chosen = choose(
        logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seeds=seed, positions=position
    )
    word = random_word64(seed, position)
    assert int(chosen) == token_by_the_book(row, temperature, top_k, top_p, min_p, word)


MIXES = [
    {}, {"temperature": 0.7}, {"temperature": 2.0}, {"temperature": 0.01}, {"temperature": 0.0}, {"top_k": 1},
    {"top_k": 7}, {"top_k": 4000}, {"top_p": 0.9}, {"top_p": 1e-6}, {"top_p": 0.999}, {"min_p": 0.05}, {"min_p": 1.0},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95}, {"temperature": 1.3, "top_k": 50, "top_p": 0.5, "min_p": 0.02},
    {"temperature": 1.5, "top_p": 0.7, "min_p": 0.1}, {"temperature": 0.6, "top_k": 3, "min_p": 0.2},
]  # fmt: skip


@pytest.mark.parametrize("mix", MIXES, ids=str)
@pytest.mark.parametrize("vocab_size", [1, 2, 15, 16, 17, 1000, 32003])
def test_equals_the_reference(mix, vocab_size, backend):
    if backend == "triton" and vocab_size > 1000 and len(mix) < 4:
        pytest.skip("slow in the interpreter; one mix of each filter is enough")
    rows = 2 if backend == "triton" else 3 if vocab_size > 10000 else 12
    logits = random_logits(rows, vocab_size, seed=vocab_size)
    seeds, positions = torch.arange(rows) * 77 - 5, torch.arange(rows) * 3
    chosen = choose(logits, **mix, seeds=seeds, positions=positions)
    assert chosen.dtype == torch.int64
    assert torch.equal(chosen, choose(logits, **mix, seeds=seeds, positions=positions, fn=reference.sample))


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_kept_tokens(mix, backend):
    is_interpreted = backend == "triton"
    logits = (
        random_logits(6, 300 if is_interpreted else 5000, seed=9)[: 2 if is_interpreted else 6].mul_(8).round_().div_(8)
    )  # many ties
    keys = {"temperature": (1.0, torch.float32), "top_k": (0, torch.int32), "top_p": (1.0, torch.float32)}
    keys["min_p"] = (0.0, torch.float32)
    columns = [torch.full((len(logits),), mix.get(name, off), dtype=dtype) for name, (off, dtype) in keys.items()]
    kept = kept_tokens(logits, *columns)
    assert torch.equal(kept, reference.kept_tokens(logits, *columns))
    for position in range(1 if is_interpreted else 20):
        chosen = choose(logits, **mix, seeds=4, positions=position)
        assert kept.gather(1, chosen[:, None]).all()
    if mix.get("temperature") == 0:
        assert kept.all()
    elif mix.get("top_k", 0) > 0:
        assert (kept.sum(1) <= mix["top_k"]).all()


def test_frequencies():
    """Pearson's chi-square over 20,000 draws of one row: 11 degrees of freedom, 99.9 % point 31.3."""
    row = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5, 0.5, 1.5, -2.0, 0.0, 1.0, -0.5, 0.25])
    draws = 20_000
    words = choose(row.expand(draws, -1).contiguous(), temperature=1.25, seeds=42, positions=torch.arange(draws))
    expected = torch.softmax(row / 1.25, dim=0) * draws
    observed = torch.bincount(words, minlength=len(row))
    assert float(((observed - expected) ** 2 / expected).sum()) < 31.3


def test_frequencies_after_filters():
    """top_k 4 of six tokens, one of them twice; 3 degrees of freedom, 99.9 % point 16.3."""
    row = torch.tensor([1.0, 2.0, 0.0, 1.0, 3.0, -1.0])
    draws = 20_000
    words = choose(row.expand(draws, -1).contiguous(), top_k=4, seeds=torch.arange(draws), positions=3)
    kept = [0, 1, 3, 4]
    expected = torch.softmax(row[kept], dim=0) * draws
    observed = torch.bincount(words, minlength=len(row))
    assert int(observed[kept].sum()) == draws
    assert float(((observed[kept] - expected) ** 2 / expected).sum()) < 16.3


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("vocab_size", [1, 2, 15, 16, 17, 31, 33, 1000])
def test_arg_max_takes_the_lowest_id_of_a_tie(vocab_size):
    logits = random_logits(8, vocab_size).mul_(2).round_()
    want = [row.index(max(row)) for row in logits.tolist()]
    assert arg_max(logits).tolist() == want
    assert choose(logits, temperature=0.0).tolist() == want


def test_masked_tokens_are_never_chosen():
    logits = torch.full((50, 300), -INF)
    logits[:, 7], logits[:, 299] = 1.0, 1.0
    assert set(choose(logits, seeds=torch.arange(50)).tolist()) == {7, 299}


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("where", [0, 15, 16, 99])
def test_an_unsound_row_fails_alone(temperature, where):
    logits = random_logits(5, 100)
    want = choose(logits, temperature=temperature, seeds=torch.arange(5)).tolist()
    logits[1, where] = math.nan
    logits[2] = -INF
    logits[3, where] = INF
    got = choose(logits, temperature=temperature, seeds=torch.arange(5)).tolist()
    assert got == [want[0], -1, -1, -1, want[4]]
    if temperature == 0:
        assert arg_max(logits).tolist() == got


def test_a_row_does_not_depend_on_its_neighbours(backend):
    logits = random_logits(20, 300 if backend == "triton" else 3000)
    mixes = [MIXES[i % len(MIXES)] for i in range(20)]
    columns = {
        name: [mix.get(name, off) for mix in mixes]
        for name, off in (("temperature", 1.0), ("top_k", 0), ("top_p", 1.0), ("min_p", 0.0))
    }
    together = choose(logits, **columns, seeds=torch.arange(20), positions=11).tolist()
    alone = [int(choose(logits[r : r + 1], **mixes[r], seeds=r, positions=11)) for r in range(20)]
    assert together == alone


def test_no_rows():
    assert choose(torch.empty(0, 10)).tolist() == []
    assert arg_max(torch.empty(0, 10)).tolist() == []


def test_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"logits must be \[R, V\] float32, got \[3\]"):
        arg_max(torch.zeros(3))
    with pytest.raises(ValueError, match=r"must be contiguous \[2\] torch.float32, .* got \[3\]"):
        kept_tokens(torch.zeros(2, 5), *torch.ones(4, 3))
