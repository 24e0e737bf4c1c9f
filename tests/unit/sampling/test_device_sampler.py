"""The sampler of a GPU against the one of the CPU: the same tokens, numbers and errors, also in steps ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.sampling import Chosen, SampledToken, Sampler, SamplingState, TokenMask
from kvik.sampling.logprobs_mode import LogprobsMode
from kvik.sampling.on_device import DeviceSampler
from kvik.sampling_params import SamplingParams

VOCAB = 50
EOS = 2
MAX_NUM_SEQS = 4
TOKENS = st.integers(0, VOCAB - 1)


@dataclass(eq=False)
class Row:
    """A running request, as the runner knows it."""

    index: int
    sampling: SamplingState
    num_awaited_tokens: int = 0

    def take(self, sample: SampledToken) -> None:
        self.num_awaited_tokens -= 1
        self.sampling.append(max(0, sample.token_id))


def state_of(wishes: dict[str, Any], prompt: list[int]) -> SamplingState:
    return SamplingState(SamplingParams(**({"max_tokens": None} | wishes)), prompt, len(prompt), EOS, VOCAB)


def device_sampler(mode: str = "raw_logprobs") -> DeviceSampler:
    return DeviceSampler(torch.device("cpu"), lambda told: told, mode, MAX_NUM_SEQS, VOCAB)


def logits_of(rows: list[Row], seed: int) -> torch.Tensor:
    """What a model would say after the tokens that each row has, awaited ones counted by number alone."""
    rows_of_logits = []
    for row in rows:
        place = len(row.sampling.token_ids) + row.num_awaited_tokens
        generator = torch.Generator().manual_seed(1000 * seed + 100 * row.index + place)
        rows_of_logits.append(torch.randn(VOCAB, generator=generator) * 3)
    return torch.stack(rows_of_logits)


def wishes() -> st.SearchStrategy[dict[str, Any]]:
    ways = st.sampled_from(
        [{"temperature": 0.0}, {"temperature": 1.0, "seed": 5}, {"temperature": 2.0, "seed": 6, "top_p": 0.9},
         {"temperature": 1.5, "seed": 7, "top_k": 5, "min_p": 0.01}]
    )  # fmt: skip
    others = st.fixed_dictionaries(
        {},
        optional={
            "logit_bias": st.dictionaries(TOKENS, st.floats(-20, 20, width=32), max_size=3),
            "allowed_token_ids": st.lists(TOKENS, min_size=1, max_size=8, unique=True),
            "bad_words_token_ids": st.lists(TOKENS.map(lambda i: [i]), max_size=2),
            "min_tokens": st.integers(0, 3),
            "frequency_penalty": st.sampled_from([0.5, -1.0]),
            "presence_penalty": st.sampled_from([0.0, 1.5]),
            "repetition_penalty": st.sampled_from([1.0, 1.3]),
            "logprobs": st.sampled_from([0, 2, -1]),
            "logprob_token_ids": st.lists(TOKENS, max_size=3),
        },
    )
    return st.tuples(ways, others).map(lambda pair: pair[0] | pair[1])


@dataclass(frozen=True)
class Arrival:
    wishes: dict[str, Any]
    prompt: list[int]
    first_step: int
    num_steps: int


ARRIVALS = st.lists(
    st.builds(
        Arrival, wishes(), st.lists(TOKENS, min_size=1, max_size=5), st.integers(0, 3), st.integers(1, 5)
    ),
    min_size=1, max_size=6,
)  # fmt: skip


def running(arrivals: list[Arrival]) -> Iterator[list[tuple[int, Arrival]]]:
    """Of each step the arrivals that are in it, with a row of the table that no other one has."""
    held: dict[int, tuple[int, Arrival]] = {}
    for step in range(9):
        held = {r: entry for r, entry in held.items() if step < entry[1].first_step + entry[1].num_steps}
        for number, arrival in enumerate(arrivals):
            if arrival.first_step == step and len(held) < MAX_NUM_SEQS:
                held[min(set(range(MAX_NUM_SEQS)) - held.keys())] = number, arrival
        yield [(r, entry[1]) for r, entry in sorted(held.items())]


def host_answers(arrivals: list[Arrival], mode: str, seed: int) -> list[list[SampledToken]]:
    rows: dict[int, Row] = {}
    answers = []
    for step in running(arrivals):
        batch = [rows.setdefault(id(a), Row(r, state_of(a.wishes, a.prompt))) for r, a in step]
        if batch:
            answers.append(Sampler(mode).sample(logits_of(batch, seed), [row.sampling for row in batch]))
            for row, sample in zip(batch, answers[-1], strict=True):
                row.sampling.append(max(0, sample.token_id))
    return answers


def device_answers(arrivals: list[Arrival], mode: str, seed: int, num_ahead: int) -> list[list[SampledToken]]:
    sampler, rows = device_sampler(mode), dict[int, Row]()
    under_way: deque[tuple[Chosen, list[Row]]] = deque()
    answers: list[list[SampledToken]] = []

    def land() -> None:
        chosen, batch = under_way.popleft()
        answers.append(chosen.samples())
        for row, sample in zip(batch, answers[-1], strict=True):
            row.take(sample)

    for step in running(arrivals):
        batch = [rows.setdefault(id(a), Row(r, state_of(a.wishes, a.prompt))) for r, a in step]
        if batch:
            under_way.append((sampler.choose(logits_of(batch, seed), batch, [None] * len(batch)), batch))
            for row in batch:
                row.num_awaited_tokens += 1
        if len(under_way) > num_ahead:
            land()
    while under_way:
        land()
    return answers


def assert_same(found: list[SampledToken], wanted: list[SampledToken]) -> None:
    assert [s[:1] + s[2:] for s in found] == [s[:1] + s[2:] for s in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine.logprobs is None) == (theirs.logprobs is None)
        if mine.logprobs is not None and theirs.logprobs is not None:
            assert mine.logprobs.token_ids == theirs.logprobs.token_ids
            assert mine.logprobs.ranks == theirs.logprobs.ranks
            assert mine.logprobs.logprobs == pytest.approx(theirs.logprobs.logprobs, abs=1e-5)


@given(ARRIVALS, st.sampled_from(LogprobsMode.__args__), st.integers(0, 5), st.integers(0, 2))
@settings(max_examples=150)
def test_the_hosts_answers(arrivals: list[Arrival], mode: str, seed: int, num_ahead: int) -> None:
    found = device_answers(arrivals, mode, seed, num_ahead)
    for mine, theirs in zip(found, host_answers(arrivals, mode, seed), strict=True):
        assert_same(mine, theirs)


def test_grammars_and_what_is_allowed_besides() -> None:
    rows = [
        Row(0, state_of({"temperature": 0.0, "allowed_token_ids": [3, 40]}, [1])),
        Row(1, state_of({"temperature": 0.0}, [1])),
        Row(2, state_of({"temperature": 0.0, "allowed_token_ids": [3]}, [1])),
    ]
    sampler = device_sampler()
    for masks, wanted in (([bits(40, 41), bits(5), None], [40, 5, 3]), ([bits(3), None, bits(4)], [3, 49, -1])):
        logits = torch.arange(VOCAB, dtype=torch.float32).repeat(3, 1)
        samples = sampler.choose(logits, rows, masks).samples()
        assert [sample.token_id for sample in samples] == wanted
    assert samples[2].error_param == "allowed_token_ids"
    assert "rules out the whole vocabulary" in (samples[2].error or "")


def bits(*token_ids: int) -> TokenMask:
    mask = np.zeros(-(-VOCAB // 32), np.uint32)
    for token_id in token_ids:
        mask[token_id // 32] |= np.uint32(1 << token_id % 32)
    return mask


def test_bad_words_of_several_tokens_by_what_is_known() -> None:
    row = Row(0, state_of({"temperature": 0.0, "bad_words_token_ids": [[49, 48]], "logit_bias": {47: -5.0}}, [1]))
    sampler, answer = device_sampler(), []
    for _ in range(3):
        (sample,) = sampler.choose(torch.arange(VOCAB, dtype=torch.float32)[None], [row], [None]).samples()
        row.sampling.append(sample.token_id)
        answer.append(sample.token_id)
        logits = torch.arange(VOCAB, dtype=torch.float32)[None]
        logits[0, 49] = -1.0
        (sample,) = sampler.choose(logits, [row], [None]).samples()
        row.sampling.append(sample.token_id)
        answer.append(sample.token_id)
    assert answer == [49, 46, 49, 46, 49, 46]


def test_tokens_that_came_on_another_way_are_counted() -> None:
    """As after drafts: two tokens at once, chosen by the host's sampler."""
    wishes = {"temperature": 1.0, "seed": 3, "frequency_penalty": 2.0, "repetition_penalty": 1.5}
    ours, theirs = Row(1, state_of(wishes, [4, 5, 4])), Row(1, state_of(wishes, [4, 5, 4]))
    sampler = device_sampler()
    for step in range(4):
        logits = logits_of([theirs], step)
        (wanted,) = Sampler().sample(logits.clone(), [theirs.sampling])
        assert sampler.choose(logits, [ours], [None]).samples() == [wanted]
        for token_id in (wanted.token_id, 6, 6):
            ours.sampling.append(token_id)
            theirs.sampling.append(token_id)
        sampler.forget_rows()


def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's device without data, where reading any number raises; kernels are stood in for by their shapes."""
    from kvik.sampling import filters
    from kvik.sampling.on_device import edits, logprobs, masks, penalties, sampler

    def best(logits: torch.Tensor, chosen: torch.Tensor, k: int, normalize: bool) -> tuple[torch.Tensor, ...]:
        ids = logits.new_empty(len(logits), 1 + k, dtype=torch.int64)
        return ids, logits.new_empty(ids.shape), ids

    for module, name in ((masks, "mask_tokens"), (edits, "edit_logits"), (penalties, "penalize")):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(penalties, "count_tokens", lambda *_: None)
    monkeypatch.setattr(sampler, "sample", lambda logits, *_: logits.new_empty(len(logits), dtype=torch.int64))
    monkeypatch.setattr(filters, "kept_tokens", lambda logits, *_: logits.new_empty(logits.shape, dtype=torch.bool))
    monkeypatch.setattr(logprobs, "top_logprobs", best)
    monkeypatch.setattr(logprobs, "token_logprobs", lambda logits, ids, normalize: (logits.new_empty(ids.shape), ids))
    wishes = {
        "temperature": 1.0, "seed": 1, "logit_bias": {3: 1.0}, "allowed_token_ids": [3, 4], "min_tokens": 2,
        "presence_penalty": 1.0, "logprobs": 2, "logprob_token_ids": [7], "bad_words_token_ids": [[4]],
    }  # fmt: skip
    rows = [Row(0, state_of(wishes, [1, 2])), Row(1, state_of({"temperature": 0.0}, [1]))]
    there = torch.device("meta")
    with pytest.raises(RuntimeError):
        torch.zeros(1, device=there).tolist()
    for mode in ("raw_logprobs", "processed_logits"):
        chooser = DeviceSampler(there, lambda told: told, mode, MAX_NUM_SEQS, VOCAB)
        for _ in range(4):
            chosen = chooser.choose(torch.empty(2, VOCAB, device=there), rows, [bits(3), None])
            assert chosen.token_ids.shape == (2,)
            for row in rows:
                row.num_awaited_tokens += 1
