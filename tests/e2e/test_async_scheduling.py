"""With steps that are planned ahead, every answer is the one that comes without them, bit for bit, also of requests
that are preempted while a step is under way. test_steps_ahead.py has ends and faults."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.server import MODEL, KvikServer

STORY = "Once upon a time there was a"
CALLS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0, "max_tokens": 40},
    "seeded": {"temperature": 0.9, "top_p": 0.9, "seed": 4, "max_tokens": 40},
    "logprobs": {"temperature": 0, "max_tokens": 30, "logprobs": 3},
    "penalties": {"temperature": 0, "max_tokens": 40, "frequency_penalty": 0.3, "repetition_penalty": 1.2},
    "stop string": {"temperature": 0, "max_tokens": 40, "stop": [" who "]},
    "at least": {"temperature": 0, "max_tokens": 40, "min_tokens": 20, "stop": ["."]},
    "one token": {"temperature": 0, "max_tokens": 1},
    "long": {"temperature": 0, "max_tokens": 120, "ignore_eos": True},
    "two answers": {"temperature": 0.8, "seed": 1, "n": 2, "max_tokens": 30},
    "choice": {"temperature": 0, "max_tokens": 10, "structured_outputs": {"choice": ["red", "green", "blue"]}},
    "biased": {"temperature": 0, "max_tokens": 10, "logit_bias": {"260": -100}},
}


@pytest.fixture(scope="module")
def ahead() -> Iterator[KvikServer]:
    """Steps ahead, few blocks: requests are preempted while a step is under way."""
    flags = "--async-scheduling --max-model-len 256 --num-gpu-blocks-override 30 --max-num-batched-tokens 128"
    with KvikServer(*flags.split(), "--enable-prompt-tokens-details") as running:
        yield running


def ask(server: KvikServer, call: dict[str, Any]) -> list[tuple[Any, ...]]:
    """All that an answer says, of each choice, and its usage."""
    body = {"model": MODEL, "prompt": STORY, "return_token_ids": True, **call}
    status, answer, _ = server.request("POST", "/v1/completions", body)
    assert status == 200, answer
    keys = ("text", "token_ids", "logprobs", "finish_reason", "stop_reason")
    return [*(tuple(choice[key] for key in keys) for choice in answer["choices"]), answer["usage"]["completion_tokens"]]


def test_answers_are_the_same_alone_and_together(ahead: KvikServer) -> None:
    assert "Asynchronous scheduling is enabled" in ahead.log
    with KvikServer("--no-async-scheduling", "--max-model-len", "256") as plain:
        assert "Asynchronous scheduling is enabled" not in plain.log
        with ThreadPoolExecutor(len(CALLS)) as pool:
            wanted = dict(zip(CALLS, pool.map(lambda call: ask(plain, call), CALLS.values()), strict=True))
    assert {name: ask(ahead, call) for name, call in CALLS.items()} == wanted
    preempted = ahead.metric("vllm:num_preemptions_total")
    calls = list(CALLS.items()) * 2
    with ThreadPoolExecutor(len(calls)) as pool:
        found = list(pool.map(lambda item: ask(ahead, item[1]), calls))
    assert ahead.metric("vllm:num_preemptions_total") > preempted
    for (name, _), answer in zip(calls, found, strict=True):
        assert answer == wanted[name], name
