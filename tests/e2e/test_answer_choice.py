"""Beam search and best_of over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import BadRequestError, OpenAI

from support.server import KvikServer

PROMPT = "The capital of France is"


@pytest.fixture
def client(server: KvikServer) -> Iterator[OpenAI]:
    """Closed after each test: an error that pytest keeps would keep its connection open too."""
    with server.client() as client:
        yield client


def test_beams_are_the_likeliest_answers_in_chat_and_completions(client: OpenAI) -> None:
    model = client.models.list().data[0].id
    extra = {"use_beam_search": True, "ignore_eos": True}
    answers = client.completions.create(model=model, prompt=PROMPT, n=3, max_tokens=6, logprobs=1, extra_body=extra)
    sums = [sum(lp or 0.0 for lp in c.logprobs.token_logprobs or []) for c in answers.choices if c.logprobs]
    greedy = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=6, temperature=0, logprobs=0, extra_body={"ignore_eos": True}
    )
    assert greedy.choices[0].logprobs is not None
    assert sums == sorted(sums, reverse=True)
    assert sums[0] >= sum(lp or 0.0 for lp in greedy.choices[0].logprobs.token_logprobs or []) - 1e-4
    chat = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Hi"}],
        n=2,
        max_tokens=5,
        extra_body={"use_beam_search": True},
    )
    assert len({choice.message.content for choice in chat.choices}) == 2


def test_best_of_returns_the_likeliest_of_the_same_samples(client: OpenAI) -> None:
    model = client.models.list().data[0].id
    common = {"model": model, "prompt": PROMPT, "max_tokens": 5, "seed": 7, "logprobs": 0}
    sampled = client.completions.create(**common, n=4)  # type: ignore[call-overload]
    best = client.completions.create(**common, n=2, best_of=4)  # type: ignore[call-overload]
    ranked = sorted(sampled.choices, key=lambda c: -sum(c.logprobs.token_logprobs))
    assert [c.text for c in best.choices] == [c.text for c in ranked[:2]]


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"use_beam_search": True, "n": 11}, "n"),
        ({"use_beam_search": True, "top_p": 0.5}, "top_p"),
        ({"use_beam_search": True, "stream": True}, "use_beam_search"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"length_penalty": 2.0}, "length_penalty"),
    ],
)
def test_what_cannot_be(client: OpenAI, extra: dict[str, object], param: str) -> None:
    model = client.models.list().data[0].id
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(model=model, prompt=PROMPT, extra_body=extra)
    assert caught.value.param == param
