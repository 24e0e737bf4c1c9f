"""Beam search against looking at every text there is, over a table of probabilities."""

from __future__ import annotations

import itertools
import math
import zlib

import pytest

from fakes.byte_tokenizer import byte_tokenizer
from kvik.engine_client.answer_choice import best_of
from kvik.engine_client.beam_search import BeamModel, BeamSearch
from kvik.errors import InvalidRequestError
from kvik.sampling_params import BeamSearchParams, SamplingParams
from kvik.text.outputs import CompletionOutput, Logprob, PositionLogprobs, RequestOutput

VOCAB, EOS, PROMPT = 4, 3, [97]
MODEL = BeamModel(None, frozenset([EOS]), VOCAB, 64, -1)


def logprobs_after(ids: tuple[int, ...]) -> list[float]:
    """A distribution that depends on all tokens before."""
    weights = [1 + zlib.crc32(bytes([*ids, 200 + token])) % 97 for token in range(VOCAB)]
    return [math.log(w / sum(weights)) for w in weights]


def engine_output(prompt: list[int], num_logprobs: int) -> RequestOutput:
    values = logprobs_after(tuple(prompt))
    best = sorted(range(VOCAB), key=lambda token: -values[token])[:num_logprobs]
    position: PositionLogprobs = {t: Logprob(values[t], rank + 1, "") for rank, t in enumerate(best)}
    return RequestOutput("", None, prompt, [CompletionOutput(0, "", [best[0]], [position], values[best[0]])], True)


def search(params: BeamSearchParams, model: BeamModel = MODEL) -> list[CompletionOutput]:
    beams = BeamSearch(PROMPT, params, model)
    while not beams.is_done:
        prompts = [p for p in beams.prompts() if isinstance(p, list)]
        beams.advance([engine_output(prompt, beams.step_params.logprobs or 0) for prompt in prompts])
    return beams.output("x").outputs


def all_texts(max_tokens: int) -> dict[tuple[int, ...], float]:
    texts: dict[tuple[int, ...], float] = {}
    for length in range(1, max_tokens + 1):
        for ids in itertools.product(range(VOCAB), repeat=length):
            if EOS not in ids[:-1] and (ids[-1] == EOS or length == max_tokens):
                texts[ids] = sum(logprobs_after((*PROMPT, *ids[:i]))[token] for i, token in enumerate(ids))
    return texts


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0, -1.0])
def test_wide_beams_find_the_best_of_all_texts(length_penalty: float) -> None:
    texts = all_texts(3)
    expected = sorted(texts, key=lambda ids: -texts[ids] / len(ids) ** length_penalty)
    params = BeamSearchParams(beam_width=len(texts), max_tokens=3, length_penalty=length_penalty)
    found = search(params)
    assert [tuple(answer.token_ids) for answer in found] == expected
    for answer in found:
        assert answer.cumulative_logprob == pytest.approx(texts[tuple(answer.token_ids)])
        assert answer.finish_reason == ("stop" if answer.token_ids[-1] == EOS else "length")


def test_one_beam_is_greedy() -> None:
    (answer,) = search(BeamSearchParams(beam_width=1, max_tokens=6, ignore_eos=True))
    ids: tuple[int, ...] = ()
    for _ in range(6):
        values = logprobs_after((*PROMPT, *ids))
        ids = (*ids, values.index(max(values)))
    assert tuple(answer.token_ids) == ids


def test_ends() -> None:
    answers = search(BeamSearchParams(beam_width=4, max_tokens=8, min_tokens=3, ignore_eos=True, stop_token_ids=[2]))
    for answer in answers:
        assert 2 not in answer.token_ids[:-1]
        assert len(answer.token_ids) > 3
        assert answer.stop_reason == (2 if answer.finish_reason == "stop" else None)


def test_a_stop_string_cuts_the_text() -> None:
    model = BeamModel(byte_tokenizer(), frozenset(), VOCAB, 64, -1)
    free = search(BeamSearchParams(beam_width=2, max_tokens=5), model)[0].text
    cut = search(BeamSearchParams(beam_width=2, max_tokens=5, stop=[free[2]]), model)
    assert all(free[2] not in answer.text for answer in cut)
    assert any(answer.stop_reason == free[2] for answer in cut)


def test_logprobs_name_the_chosen_token_first() -> None:
    for answer in search(BeamSearchParams(beam_width=3, max_tokens=3, logprobs=1)):
        assert answer.logprobs is not None
        assert [next(iter(position)) for position in answer.logprobs] == answer.token_ids
        assert all(len(position) <= 2 for position in answer.logprobs)


def test_too_wide_for_the_servers_logprobs() -> None:
    model = BeamModel(None, frozenset(), 1000, 64, 20)
    with pytest.raises(InvalidRequestError, match="at most 10"):
        BeamSearch(PROMPT, BeamSearchParams(beam_width=11), model)


def test_best_of_keeps_the_likeliest() -> None:
    answers = [CompletionOutput(i, str(i), [1], [], lp) for i, lp in enumerate([-3.0, -1.0, -2.0])]
    kept = best_of(RequestOutput("", None, [1], answers, True), SamplingParams(n=2)).outputs
    assert [(a.index, a.text, a.logprobs) for a in kept] == [(0, "1", None), (1, "2", None)]
