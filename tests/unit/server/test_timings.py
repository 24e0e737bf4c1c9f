"""Where the time of a request went: in `usage`, if asked, and in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from kvik.telemetry.request_times import RequestTimes
from support.server_without_engine import Server, events_of

MakeServer = Callable[..., Server]
TIMINGS = {
    "prepare_s": 0.5, "queue_s": 0.5, "prefill_s": 1.0, "decode_s": 2.0, "detokenize_s": 0.25, "total_s": 4.5,
    "waiting_for": "slots", "cached_tokens": 2, "preemptions": 1,
}  # fmt: skip
RECORD = RequestTimes(
    1.0, 1.5, 2.0, 3.0, 5.0, finished_s=5.5, waiting_for="slots", num_cached_tokens=2, num_preemptions=1,
    detokenize_s=0.25, num_tokens=5, num_prompt_tokens=2, finish_reason="stop",
)  # fmt: skip

RESPONSE = {"input": "Hi", "return_timings": True}
MESSAGE = {
    "model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "return_timings": True,
}  # fmt: skip


def test_usage_tells_where_the_time_went_if_asked(serve: MakeServer) -> None:
    server = serve(enable_scale_out=True)
    server.llm.script.times = [RECORD]
    for ask in (server.chat, server.complete):
        assert "timings" not in ask().json()["usage"]
        assert ask(return_timings=True).json()["usage"]["timings"] == TIMINGS
    generate = {"token_ids": [1], "return_timings": True}
    for path, body in (("/v1/responses", RESPONSE), ("/v1/messages", MESSAGE), ("/inference/v1/generate", generate)):
        answer = server.http.post(path, json=body)
        assert answer.json()["usage"]["timings"] == TIMINGS, answer.text


def test_a_stream_tells_it_in_its_last_chunk(server: Server) -> None:
    server.llm.script.times = [RECORD]
    for ask in (server.chat, server.complete):
        *_, last, done = events_of(ask(stream=True, return_timings=True).text)
        assert done == "[DONE]"
        assert json.loads(last)["usage"]["timings"] == TIMINGS


def test_named_events_tell_it_at_the_end(server: Server) -> None:
    server.llm.script.times = [RECORD]
    told = data_of(server.http.post("/v1/responses", json=RESPONSE | {"stream": True}).text)
    assert told[-1]["response"]["usage"]["timings"] == TIMINGS
    told = data_of(server.http.post("/v1/messages", json=MESSAGE | {"stream": True}).text)
    assert [event["usage"]["timings"] for event in told if event["type"] == "message_delta"] == [TIMINGS]


def data_of(text: str) -> list[dict[str, Any]]:
    """What named events carry."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]


def test_the_last_line_of_a_request_says_where_its_time_went(
    serve: MakeServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("kvik"), "propagate", True)
    caplog.set_level(logging.INFO, "kvik")
    server = serve(enable_log_requests=True)
    server.llm.script.times = [RECORD]
    server.chat(request_id="one", stream=True)
    server.complete(request_id="two")
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Finished")]
    told = (
        "stop, 2 prompt tokens (2 cached), 5 new tokens in 4.500 s: prepare 0.500, queue 0.500 for slots, "
        "prefill 1.000, decode 2.000, detokenize 0.2500; 1 preemptions"
    )
    assert lines == [f"Finished request chatcmpl-one: {told}", f"Finished request cmpl-two: {told}"]
