"""With steps that are planned ahead, every answer is the one that comes without them, bit for bit, and nothing is lost
when requests end early or the engine does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.server import MODEL, KvikServer

STORY = "Once upon a time there was a"
CALLS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0, "max_tokens": 60},
    "seeded": {"temperature": 0.9, "top_p": 0.9, "seed": 4, "max_tokens": 60},
    "logprobs": {"temperature": 0, "max_tokens": 30, "logprobs": 3},
    "penalties": {"temperature": 0, "max_tokens": 40, "frequency_penalty": 0.3, "repetition_penalty": 1.2},
    "stop string": {"temperature": 0, "max_tokens": 60, "stop": [" who "]},
    "at least": {"temperature": 0, "max_tokens": 40, "min_tokens": 20, "stop": ["."]},
    "one token": {"temperature": 0, "max_tokens": 1},
    "to the end of the context": {"temperature": 0, "max_tokens": 200, "ignore_eos": True},
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
        wanted = {name: ask(plain, call) for name, call in CALLS.items()}
    assert {name: ask(ahead, call) for name, call in CALLS.items()} == wanted
    preempted = ahead.metric("vllm:num_preemptions_total")
    calls = list(CALLS.items()) * 2
    with ThreadPoolExecutor(len(calls)) as pool:
        found = list(pool.map(lambda item: ask(ahead, item[1]), calls))
    assert ahead.metric("vllm:num_preemptions_total") > preempted
    for (name, _), answer in zip(calls, found, strict=True):
        assert answer == wanted[name], name


def test_a_client_that_leaves_holds_nothing(ahead: KvikServer) -> None:
    with ahead.client as client:
        for _ in range(4):
            parts = client.completions.create(model=MODEL, prompt=STORY, max_tokens=200, stream=True, temperature=0)
            for _, _ in zip(range(3), parts, strict=False):
                pass
            parts.close()
        whole = client.completions.create(model=MODEL, prompt=STORY, max_tokens=5, temperature=0)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 5
    waited = ahead.request("GET", "/debug/requests")[1]
    while waited["requests"]:  # the last ones are being let go
        waited = ahead.request("GET", "/debug/requests")[1]
    assert ahead.metric("vllm:kv_cache_usage_perc") == 0


def test_a_stream_goes_on_when_the_engine_dies_with_a_step_under_way(ahead: KvikServer) -> None:
    with ahead.client as client:
        parts = client.completions.create(
            model=MODEL, prompt=STORY, temperature=0, max_tokens=200, stream=True, extra_body={"ignore_eos": True}
        )
        text = ""
        for number, part in enumerate(parts):
            text += part.choices[0].text if part.choices else ""
            if number == 5:
                os.kill(ahead.engine_pid(), signal.SIGKILL)
    assert text == ask(ahead, {"temperature": 0, "max_tokens": 200, "ignore_eos": True})[0][0]
