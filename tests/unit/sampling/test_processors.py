"""Each logits processor against its formula, written out token by token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvik.errors import InvalidRequestError
from kvik.sampling.processors import build_processors
from kvik.sampling_params import SamplingParams

VOCAB = 12
INF = float("inf")


def process(
    logits: list[float], prompt: list[int], outputs: list[int], eos: int | None = None, **wishes
) -> list[float]:
    params = SamplingParams(max_tokens=None, **wishes)
    row = torch.tensor(logits, dtype=torch.float32)
    for processor in build_processors(params, prompt + outputs, len(prompt), eos, len(logits)):
        processor.apply(row, prompt + outputs)
    return row.tolist()


def masked(*ids: int) -> list[float]:
    return [-INF if i in ids else float(i) for i in range(VOCAB)]


PLAIN = masked()


def test_who_asks_for_nothing_has_no_processors():
    params = SamplingParams(stop_token_ids=[1], temperature=0.5, top_k=3, logprobs=2, ignore_eos=True)
    assert build_processors(params, [1, 2], 1, 3, VOCAB) == []


def test_allowed_token_ids():
    assert process(PLAIN, [1], [], allowed_token_ids=[2, 5]) == masked(*(set(range(VOCAB)) - {2, 5}))


@pytest.mark.parametrize(
    ("words", "prompt", "outputs", "ruled_out"),
    [
        ([[3]], [1], [], [3]),
        ([[3], [9]], [1], [4], [3, 9]),
        ([[3, 4]], [1], [3], [4]),
        ([[3, 4]], [1], [5], []),
        ([[3, 4]], [1, 3], [], []),  # the prompt's part of a word does not count
        ([[3, 4, 5]], [1], [3, 4], [5]),
        ([[3, 4, 5]], [3], [4], []),
        ([[3, 4, 5]], [1], [3, 3, 4], [5]),
        ([[3, 4], [3, 5], [7]], [1], [3], [4, 5, 7]),
        ([[3, 3]], [1], [3], [3]),
    ],
)
def test_bad_words(words, prompt, outputs, ruled_out):
    assert process(PLAIN, prompt, outputs, bad_words_token_ids=words) == masked(*ruled_out)


@pytest.mark.parametrize(("num_outputs", "ruled_out"), [(0, [2, 7]), (2, [2, 7]), (3, []), (4, [])])
def test_min_tokens_masks_eos_and_stop_ids(num_outputs, ruled_out):
    wishes = {"min_tokens": 3, "stop_token_ids": [7]}
    assert process(PLAIN, [1, 1, 1, 1], [5] * num_outputs, eos=2, **wishes) == masked(*ruled_out)


def test_min_tokens_ends_while_the_request_runs():
    params = SamplingParams(min_tokens=2)
    (processor,) = build_processors(params, [1], 1, 2, VOCAB)
    tokens, seen = [1], []
    for _ in range(4):
        row = torch.zeros(VOCAB)
        processor.apply(row, tokens)
        seen.append(row[2].item() == -INF)
        tokens.append(5)
    assert seen == [True, True, False, False]


def test_logit_bias():
    row = process(PLAIN, [1], [], logit_bias={3: 1.5, 4: -100.0})
    assert row == [0.0, 1.0, 2.0, 4.5, -96.0, *PLAIN[5:]]


def test_a_bias_does_not_bring_back_a_token_that_is_not_allowed():
    assert process(PLAIN, [1], [], logit_bias={3: 50.0}, allowed_token_ids=[5]) == masked(*(set(range(VOCAB)) - {5}))


NUMBERS = st.integers(-16, 16).map(lambda n: n / 8)
TOKENS = st.lists(st.integers(0, VOCAB - 1), max_size=15)


@given(
    logits=st.lists(NUMBERS, min_size=VOCAB, max_size=VOCAB), prompt=TOKENS, outputs=TOKENS, later=TOKENS,
    repetition=st.sampled_from([0.5, 1.0, 2.0]), frequency=NUMBERS, presence=NUMBERS,
)  # fmt: skip
def test_penalties(logits, prompt, outputs, later, repetition, frequency, presence):
    params = SamplingParams(
        repetition_penalty=repetition, frequency_penalty=frequency, presence_penalty=presence, max_tokens=None
    )
    tokens = prompt + outputs
    processors = build_processors(params, tokens, len(prompt), None, VOCAB)
    for token_id in later:
        tokens.append(token_id)
        for processor in processors:
            processor.append(token_id)
    row = torch.tensor(logits)
    for processor in processors:
        processor.apply(row, tokens)
    generated = outputs + later
    for i, (before, after) in enumerate(zip(logits, row.tolist(), strict=True)):
        expected = before
        if i in tokens:
            expected = before / repetition if before > 0 else before * repetition
        count = generated.count(i)
        assert after == pytest.approx(expected - frequency * count - presence * (count > 0), abs=1e-6)


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"allowed_token_ids": [1, 12]}, "allowed_token_ids"),
        ({"allowed_token_ids": [-1]}, "allowed_token_ids"),
        ({"bad_words_token_ids": [[1], [2, 99]]}, "bad_words"),
        ({"stop_token_ids": [12]}, "stop_token_ids"),
        ({"logit_bias": {12: 1.0}}, "logit_bias"),
        ({"logprob_token_ids": [-3]}, "logprob_token_ids"),
    ],
)
def test_a_token_id_outside_the_vocabulary_is_named(wish, param):
    with pytest.raises(InvalidRequestError, match=f"{param} must hold token ids from 0 to 11, got ") as caught:
        build_processors(SamplingParams(**wish), [1], 1, None, VOCAB)
    assert caught.value.param == param
