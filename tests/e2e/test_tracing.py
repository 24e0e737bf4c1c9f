"""Traces of real requests, as a collector gets them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from support.otlp_collector import OtlpCollector, attributes_of
from support.server import KvikServer, eventually, free_port

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STORY = {"prompt": "Once upon a time", "temperature": 0, "ignore_eos": True, "max_tokens": 20}


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(collector: OtlpCollector) -> Iterator[KvikServer]:
    env = {"OTEL_SERVICE_NAME": "story-teller", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with KvikServer("--otlp-traces-endpoint", collector.url, env=env) as running:
        yield running


def span_of(collector: OtlpCollector, request_id: str) -> Any:
    """The request's span, once it is there."""

    def found() -> list[Any]:
        spans = collector.named("llm_request")
        return [span for span in spans if attributes_of(span)["gen_ai.request.id"].endswith(request_id)]

    assert eventually(lambda: bool(found()))
    return found()[0]


def test_a_stream_is_a_part_of_its_callers_trace(traced: KvikServer, collector: OtlpCollector) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "streamed"}
    asked_ns = time.time_ns()
    assert traced.request("POST", "/v1/completions", STORY | {"stream": True}, **headers)[0] == 200
    answered_ns = time.time_ns()
    span = span_of(collector, "streamed")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert asked_ns <= span.start_time_unix_nano < span.end_time_unix_nano <= answered_ns
    assert attributes_of(span)["gen_ai.usage.completion_tokens"] == 20
    phases = sorted(collector.children_of(span), key=lambda child: child.start_time_unix_nano)
    assert [phase.name for phase in phases] == ["prepare", "queue", "prefill", "decode"]
    assert all(phase.trace_id == span.trace_id for phase in phases)
    spent_ns = sum(phase.end_time_unix_nano - phase.start_time_unix_nano for phase in phases)
    assert 0.8 < spent_ns / (span.end_time_unix_nano - span.start_time_unix_nano) <= 1.001
    for before, after in pairwise(phases):
        assert abs(before.end_time_unix_nano - after.start_time_unix_nano) < 1000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}),
        ("/v1/messages", {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}),
        ("/v1/responses", {"input": "Hi", "max_output_tokens": 3}),
    ],
)
def test_every_api_is_traced(traced: KvikServer, collector: OtlpCollector, path: str, body: dict[str, Any]) -> None:
    name = traced.request("GET", "/v1/models")[1]["data"][0]["id"]
    body = body | ({"model": name} if "model" in body else {})
    status, answer, _ = traced.request("POST", path, body)
    assert status == 200, answer
    assert attributes_of(span_of(collector, answer["id"]))["gen_ai.usage.completion_tokens"] >= 1


def test_what_was_aborted_says_so(traced: KvikServer, collector: OtlpCollector) -> None:
    body = STORY | {"max_tokens": 1, "request_id": "plain"}
    traced.request("POST", "/v1/completions", body)
    assert span_of(collector, "plain").status.code == 0
    with traced.client() as client:
        stream = client.completions.create(
            model=traced.request("GET", "/v1/models")[1]["data"][0]["id"], prompt="Once", max_tokens=4000, stream=True,
            extra_body={"ignore_eos": True, "request_id": "left"},
        )  # fmt: skip
        next(iter(stream))
        stream.close()
    left = span_of(collector, "left")
    assert (left.status.code, attributes_of(left)["kvik.finish_reason"]) == (2, "abort")


def test_who_sends_and_how_it_started(traced: KvikServer, collector: OtlpCollector) -> None:
    assert eventually(lambda: bool(collector.named("startup")))
    (start,) = collector.named("startup")
    names = {child.name for child in collector.children_of(start)}
    assert {phase["name"] for phase in traced.request("GET", "/startup")[1]["phases"]} == names
    assert collector.resources[0]["service.name"] == "story-teller"
    assert set(collector.paths) == {"/v1/traces"}


def test_without_a_collector_all_goes_on() -> None:
    env = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
    with KvikServer("--otlp-traces-endpoint", f"http://127.0.0.1:{free_port()}", env=env) as server:
        assert server.request("POST", "/v1/completions", STORY)[0] == 200
        assert eventually(lambda: "traces cannot be sent" in server.log, 20)
        assert server.request("POST", "/v1/completions", STORY)[0] == 200
        server.process.terminate()
        began_s = time.monotonic()
        server.process.wait(20)
        assert time.monotonic() - began_s < 6
    assert server.log.count("traces cannot be sent") == 1
    assert "Traceback" not in server.log
