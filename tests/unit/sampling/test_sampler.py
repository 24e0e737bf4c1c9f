"""The sampler: the order of its steps, logprobs in all modes, and rows that do not feel each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.errors import ConfigError, EngineRequestError, InvalidRequestError
from kvik.messages import TokenLogprobs
from kvik.sampling import SampledToken, Sampler, SamplingState
from kvik.sampling_params import SamplingParams
from kvik.structured_outputs import StructuredOutputs

VOCAB = 50
INF = float("inf")


def state(prompt: list[int] | None = None, outputs: list[int] | None = None, eos: int | None = 2, **wishes: Any):
    wishes = {"temperature": 0.0, "max_tokens": None} | wishes
    if wishes["temperature"]:
        wishes = {"seed": 1} | wishes
    prompt = prompt or [1, 5]
    return SamplingState(SamplingParams(**wishes), prompt + (outputs or []), len(prompt), eos, VOCAB)


def random_logits(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def one(logits: torch.Tensor, request: SamplingState, mode: str = "raw_logprobs") -> SampledToken:
    (sampled,) = Sampler(mode).sample(logits.clone(), [request])
    return sampled


def ranked(values: torch.Tensor) -> list[int]:
    return sorted(range(len(values)), key=lambda i: (-float(values[i]), i))


def assert_record(record: TokenLogprobs | None, token_id: int, values: torch.Tensor, k: int) -> None:
    """`values` [V] are what the mode reports."""
    assert record is not None
    order = ranked(values)
    assert record.token_ids == [token_id, *(i for i in order[:k] if i != token_id)]
    assert record.ranks == [order.index(i) + 1 for i in record.token_ids]
    assert record.logprobs == pytest.approx(values[record.token_ids].tolist(), abs=1e-5)


def test_plain_greedy():
    logits = random_logits(4)
    sampled = Sampler().sample(logits.clone(), [state() for _ in range(4)])
    assert sampled == [SampledToken(i, None, None) for i in logits.argmax(1).tolist()]


def test_no_rows():
    assert Sampler().sample(torch.empty(0, VOCAB), []) == []


def test_greedy_comes_after_bias_and_penalties():
    logits = torch.zeros(1, VOCAB)
    logits[0, 7], logits[0, 8] = 5.0, 4.0
    assert one(logits, state()).token_id == 7
    assert one(logits, state(logit_bias={9: 6.0})).token_id == 9
    assert one(logits, state(outputs=[7], presence_penalty=2.0)).token_id == 8
    assert one(logits, state(prompt=[7], repetition_penalty=2.0)).token_id == 8


def test_a_tokens_position_is_its_random_number():
    logits = torch.zeros(1, VOCAB)
    draws = [one(logits, state(prompt=[1] * n, temperature=1.0, seed=3)).token_id for n in range(1, 30)]
    request = state(prompt=[1], temperature=1.0, seed=3)
    again = []
    for _ in range(29):
        again.append(one(logits, request).token_id)
        request.append(1)
    assert draws == again
    assert len(set(draws)) > 10


def test_a_readmitted_request_goes_on_as_if_nothing_had_happened():
    wishes = {"temperature": 1.0, "seed": 9, "presence_penalty": 1.0, "min_tokens": 6, "bad_words_token_ids": [[3, 4]]}
    steps = [random_logits(1, seed=s) for s in range(12)]
    steady, tokens = state(**wishes), []
    for logits in steps:
        tokens.append(one(logits, steady).token_id)
        steady.append(tokens[-1])
    for i, logits in enumerate(steps):
        assert one(logits, state(outputs=tokens[:i], **wishes)).token_id == tokens[i]


@pytest.mark.parametrize("k", [0, 1, 5, -1])
@pytest.mark.parametrize("wishes", [{}, {"temperature": 1.0}, {"logit_bias": {4: 50.0}}], ids=str)
def test_raw_logprobs_are_the_models_own(k, wishes):
    logits = random_logits(1, seed=4)
    sampled = one(logits, state(logprobs=k, **wishes))
    assert_record(sampled.logprobs, sampled.token_id, torch.log_softmax(logits[0], -1), VOCAB if k == -1 else k)


FILTERED = {"temperature": 0.5, "top_k": 6, "logit_bias": {4: 3.0}, "repetition_penalty": 1.5, "prompt": [1, 2, 3]}


def processed_by_hand(logits: torch.Tensor, *, greedy: bool) -> torch.Tensor:
    values = logits.clone()
    values[4] += 3
    values[[1, 2, 3]] = torch.where(values[[1, 2, 3]] > 0, values[[1, 2, 3]] / 1.5, values[[1, 2, 3]] * 1.5)
    if greedy:
        return values
    kept = ranked(values)[:6]
    return torch.full_like(values, -INF).index_copy(0, torch.tensor(kept), values[kept] / 0.5)


@pytest.mark.parametrize("greedy", [False, True])
def test_the_four_modes(greedy):
    logits = random_logits(1, seed=5)
    wishes = FILTERED | ({"temperature": 0.0} if greedy else {}) | {"logprobs": 8}
    processed = processed_by_hand(logits[0], greedy=greedy)
    expected = {
        "raw_logits": logits[0],
        "raw_logprobs": torch.log_softmax(logits[0], -1),
        "processed_logits": processed,
        "processed_logprobs": torch.log_softmax(processed, -1),
    }
    for mode, values in expected.items():
        sampled = one(logits, state(**wishes), mode)
        assert_record(sampled.logprobs, sampled.token_id, values, 8)


def test_an_unknown_mode_is_named():
    with pytest.raises(ConfigError, match=r"raw_logprobs, raw_logits, .* got 'raw'"):
        Sampler("raw")


def test_logprob_token_ids():
    logits = random_logits(1, seed=6)
    values = torch.log_softmax(logits[0], -1)
    best = ranked(values)[:3]
    sampled = one(logits, state(logprob_token_ids=[30, best[0], 40, 30]))
    assert sampled.logprobs is not None
    assert sampled.logprobs.token_ids == [best[0], *[i for i in (30, 40) if i != best[0]]]
    both = one(logits, state(logprobs=2, logprob_token_ids=[best[1], best[2], 30])).logprobs
    assert both is not None
    assert both.token_ids == [*best, 30]
    assert both.logprobs == pytest.approx(values[both.token_ids].tolist(), abs=1e-5)
    assert both.ranks == [ranked(values).index(i) + 1 for i in both.token_ids]


def test_only_who_asks_gets_logprobs():
    requests = [state(), state(logprobs=0), state(temperature=1.0), state(logprobs=3), state(logprobs=-1)]
    sampled = Sampler().sample(random_logits(5), requests)
    sizes = [0 if s.logprobs is None else len(s.logprobs.token_ids) for s in sampled]
    assert sizes == [0, 1, 0, 3, VOCAB]


@pytest.mark.parametrize(
    "wishes", [{}, {"temperature": 1.0}, {"logprobs": 1}, {"allowed_token_ids": [3], "logprobs": 0}]
)
def test_nan_ends_one_request(wishes):
    logits = random_logits(3)
    logits[1, 9] = math.nan
    first, broken, last = Sampler().sample(logits, [state(), state(**wishes), state(logprobs=1)])
    assert first.error is None
    assert last.error is None
    assert (broken.token_id, broken.logprobs) == (-1, None)
    assert "NaN or infinity" in broken.error


def test_wishes_that_leave_no_token_end_one_request():
    requests = [state(allowed_token_ids=[2], min_tokens=1, logprobs=2), state()]
    nothing_left, fine = Sampler().sample(random_logits(2), requests)
    assert nothing_left.error is not None
    assert "allowed_token_ids and min_tokens together rule out the whole vocabulary" in nothing_left.error
    assert nothing_left.error_param == "allowed_token_ids"
    assert fine.error is None


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({}, "guided_regex"),
        ({"min_tokens": 5}, "min_tokens"),
        ({"bad_words_token_ids": [[9]]}, "bad_words"),
        ({"bad_words_token_ids": [[9]], "allowed_token_ids": [9]}, "allowed_token_ids"),
    ],
)
def test_the_field_that_leaves_no_token_is_named(wishes, param):
    grammar = StructuredOutputs(compiled="g", param="guided_regex")
    nothing = np.zeros(VOCAB // 32 + 1, np.uint32)
    requests = [state(structured_outputs=grammar, **wishes), state(temperature=1.0)]
    ended, fine = Sampler().sample(random_logits(2), requests, [nothing, None])
    assert (ended.token_id, ended.error_param) == (-1, param)
    assert (fine.error, fine.error_param) == (None, None)


def test_a_model_without_a_distribution_is_not_the_requests_fault():
    logits = random_logits(1)
    logits[0] = -math.inf
    assert one(logits, state()).error_param is None
    logits[0, 3] = math.nan
    assert one(logits, state(allowed_token_ids=[3])).error_param is None


def test_a_random_request_needs_a_seed():
    with pytest.raises(InvalidRequestError, match="needs a seed"):
        SamplingState(SamplingParams(temperature=1.0), [1], 1, None, VOCAB)


@pytest.mark.parametrize("k", [0, 4, -1])
def test_prompt_logprobs(k):
    logits = random_logits(6, seed=8)
    targets = [3, 14, 15, 9, 2, 6]
    records = Sampler("processed_logprobs").prompt_logprobs(logits, targets, k)
    for row, target, record in zip(torch.log_softmax(logits, -1), targets, records, strict=True):
        assert_record(record, target, row, VOCAB if k == -1 else k)


def test_prompt_logprobs_of_nan_are_an_error():
    logits = random_logits(2)
    logits[1, 0] = math.nan
    with pytest.raises(EngineRequestError, match="NaN"):
        Sampler().prompt_logprobs(logits, [1, 2], 3)


TOKENS = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=6)
WISHES = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0.0, 0.6, 1.0, 1.7])},
    optional={
        "top_k": st.integers(1, VOCAB + 5), "top_p": st.sampled_from([0.1, 0.8, 0.95]), "seed": st.integers(0, 99),
        "min_p": st.sampled_from([0.02, 0.3]), "presence_penalty": st.sampled_from([-1.0, 0.5]),
        "frequency_penalty": st.just(0.7), "repetition_penalty": st.sampled_from([0.8, 1.4]), "min_tokens": st.just(4),
        "logprobs": st.sampled_from([-1, 0, 1, 5, 20]), "logit_bias": st.just({3: 2.0, 7: -100.0}),
        "allowed_token_ids": TOKENS, "bad_words_token_ids": st.lists(TOKENS, max_size=2),
        "logprob_token_ids": TOKENS, "prompt": TOKENS, "outputs": TOKENS,
    },
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    batch=st.lists(WISHES, min_size=1, max_size=8),
    seed=st.integers(0, 1000),
    mode=st.sampled_from(["raw_logprobs", "raw_logits", "processed_logprobs", "processed_logits"]),
)
def test_a_request_gets_the_same_alone_and_in_a_batch(batch, seed, mode):
    logits = random_logits(len(batch), seed)
    together = Sampler(mode).sample(logits.clone(), [state(**wishes) for wishes in batch])
    for r, wishes in enumerate(batch):
        assert one(logits[r : r + 1], state(**wishes), mode) == together[r]
