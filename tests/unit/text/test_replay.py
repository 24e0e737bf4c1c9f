"""Answers generated elsewhere become outputs as if they had come from this engine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fakes.byte_tokenizer import EOS, HELLO, byte_tokenizer
from kvik.messages import FinishReason, TokenLogprobs
from kvik.sampling_params import SamplingParams
from kvik.text.replay import GivenAnswer, replay

TOKENIZER = byte_tokenizer()


def test_a_stop_token_has_no_text() -> None:
    output = replay(TOKENIZER, "p", [112], SamplingParams(), [GivenAnswer(0, [97, HELLO, EOS], FinishReason.STOP)])
    (answer,) = output.outputs
    assert (answer.text, answer.token_ids, answer.finish_reason) == ("a hello", [97, HELLO, EOS], "stop")
    assert (output.prompt, output.prompt_token_ids, output.finished) == ("p", [112], True)


def test_a_stop_string_ends_the_text() -> None:
    params = SamplingParams(stop=["llo"])
    given = GivenAnswer(0, [97, HELLO], FinishReason.STOP, "llo")
    (answer,) = replay(TOKENIZER, None, [112], params, [given]).outputs
    assert (answer.text, answer.finish_reason, answer.stop_reason) == ("a he", "stop", "llo")


def test_a_stop_string_of_another_request_changes_nothing() -> None:
    given = GivenAnswer(0, [97, HELLO], FinishReason.STOP, "zz")
    (answer,) = replay(TOKENIZER, None, [112], SamplingParams(), [given]).outputs
    assert (answer.text, answer.finish_reason) == ("a hello", "stop")


def test_logprobs_get_their_texts() -> None:
    given = GivenAnswer(0, [97], FinishReason.LENGTH, None, [TokenLogprobs([97, 98], [-1.0, -2.0], [1, 2])])
    (answer,) = replay(TOKENIZER, None, [112], SamplingParams(logprobs=1), [given]).outputs
    assert answer.logprobs is not None
    assert [(i, entry.decoded_token) for i, entry in answer.logprobs[0].items()] == [(97, "a"), (98, "b")]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_texts_come_back(texts: list[str]) -> None:
    answers = [GivenAnswer(i, list(text.encode()), FinishReason.LENGTH) for i, text in enumerate(texts)]
    outputs = replay(TOKENIZER, None, [112], SamplingParams(n=len(texts)), answers).outputs
    assert [answer.text for answer in outputs] == texts
