from __future__ import annotations

import asyncio
import json

import pytest

from fakes.sse_server import HEAD, LAST, chunk, sse_server
from kvik.bench.answer import Answer, read_answer
from kvik.bench.client import post
from kvik.bench.datasets import Prompt
from kvik.bench.endpoint import Endpoint
from kvik.bench.load import Load
from kvik.bench.process import free_port
from kvik.bench.run import Run, measure_async

PROMPT = Prompt("Hej", 1, 4, (7,))
TOKENS = [chunk('{"choices": [{"text": "a"}]}'), chunk('{"choices": [{"text": "b", "finish_reason": "length"}]}')]
USAGE = chunk('{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}')


def asked(pieces: list[bytes], keeps_open: bool = False, timeout_s: float | None = None) -> Answer:
    async def run() -> Answer:
        async with sse_server(pieces, keeps_open) as (endpoint, _):
            raw = await post(endpoint, endpoint.request(PROMPT), timeout_s)
            return read_answer(raw, PROMPT.num_tokens)

    return asyncio.run(run())


def test_a_whole_stream() -> None:
    answer = asked([HEAD, *TOKENS, USAGE, chunk("[DONE]"), LAST])
    assert answer.is_success
    assert (answer.text, answer.num_prompt_tokens, answer.num_output_tokens) == ("ab", 9, 2)
    assert len(answer.itl_s) == 1
    assert 0 < answer.ttft_s <= answer.latency_s


def test_the_end_of_the_body_is_enough_where_the_server_keeps_the_connection() -> None:
    assert asked([HEAD, *TOKENS, chunk("[DONE]"), LAST], keeps_open=True, timeout_s=20).is_success


def test_a_stream_that_breaks_off_counts_as_lost_and_says_after_how_much() -> None:
    assert asked([HEAD, TOKENS[0]]).error == "the stream broke off after 1 chunks"


def test_a_server_that_hangs_up_at_once() -> None:
    assert asked([]).error == "the connection ended before an answer began"


def test_an_error_in_the_middle_of_a_stream() -> None:
    answer = asked([HEAD, TOKENS[0], chunk('{"error": {"message": "the engine has died"}}'), LAST])
    assert answer.error == "error after 1 chunks: the engine has died"


def test_a_refusal_has_its_status_and_message() -> None:
    body = b'{"error": {"message": "too long"}}'
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert asked([head + body]).error == "HTTP 400: too long"


def test_a_server_that_hangs_is_given_up() -> None:
    assert asked([HEAD, TOKENS[0]], keeps_open=True, timeout_s=0.05).error.startswith(
        "no end within 0.05 s: the stream"
    )


def test_nobody_listens() -> None:
    async def run() -> Answer:
        endpoint = Endpoint("127.0.0.1", free_port(), "/v1/completions", "openai", "m")
        return read_answer(await post(endpoint, endpoint.request(PROMPT)), 1)

    assert asyncio.run(run()).error.startswith("cannot connect to 127.0.0.1:")


def test_a_run_sends_warm_ups_that_do_not_count_and_keeps_the_order() -> None:
    prompts = [Prompt(f"p{i}", 1, 4) for i in range(5)]

    async def run() -> tuple[list[Answer], list[bytes]]:
        async with sse_server([HEAD, *TOKENS, chunk("[DONE]"), LAST]) as (endpoint, requests):
            answers, seconds = await measure_async(Run(endpoint, prompts, Load(max_concurrency=1), num_warmups=2))
            assert seconds > 0
            return answers, requests

    answers, requests = asyncio.run(run())
    assert len(answers) == 5
    assert all(a.is_success for a in answers)
    sent = [json.loads(r.partition(b"\r\n\r\n")[2])["prompt"] for r in requests]
    assert sorted(sent[:2]) == ["p0", "p1"]
    assert sent[2:] == ["p0", "p1", "p2", "p3", "p4"]


@pytest.mark.parametrize(
    ("backend", "ids", "field", "value"),
    [
        ("openai", False, "prompt", "Hej"),
        ("vllm", True, "prompt", [7]),
        ("openai-chat", False, "messages", [{"role": "user", "content": "Hej"}]),
    ],
)
def test_bodies(backend: str, ids: bool, field: str, value: object) -> None:
    endpoint = Endpoint("h", 1, "/x", backend, "m", sends_token_ids=ids, extra_body={"ignore_eos": True})
    body = endpoint.body(PROMPT)
    assert body[field] == value
    assert body["max_tokens"] == 4
    assert body["ignore_eos"] is True
    assert body["stream_options"] == {"include_usage": True}
