"""From the times of a request to its spans."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from kvik.messages import Phase
from kvik.sampling_params import SamplingParams
from kvik.server.tracing import export
from kvik.server.tracing.check import Target
from kvik.server.tracing.tracer import Tracer
from kvik.telemetry.request_times import RequestTimes

BASE_S = 1000.0
TIMES = RequestTimes(
    BASE_S, BASE_S + 1, BASE_S + 3, BASE_S + 4, BASE_S + 9, first_token_latency_s=4.5, finished_s=BASE_S + 10,
    waiting_for="slots", finish_reason="stop", num_tokens=6, num_prompt_tokens=10, num_cached_tokens=8,
)  # fmt: skip
TARGET = Target("http://collector", "http/protobuf", 2048)


class Kept:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = Tracer(provider)

    def record(self, times: RequestTimes = TIMES, **headers: str) -> dict[str, ReadableSpan]:
        self.tracer.record(headers, "cmpl-a", "m", SamplingParams(temperature=0.5, max_tokens=7), times)
        return self.spans()

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_span_for_each_phase_inside_of_one_for_the_request() -> None:
    spans = Kept().record()
    whole = spans.pop("llm_request")
    assert {name: round(seconds(span), 6) for name, span in spans.items()} == {
        "prepare": 1, "queue": 2, "prefill": 1, "decode": 5,
    }  # fmt: skip
    assert seconds(whole) == pytest.approx(10)
    for span in spans.values():
        assert span.parent is not None
        assert whole.context is not None
        assert span.parent.span_id == whole.context.span_id
    assert dict(spans["queue"].attributes or {}) == {"kvik.waiting_for": "slots"}


def test_times_are_those_of_the_calendar() -> None:
    started_s = time.monotonic() - 2
    times = replace(TIMES, arrival_s=started_s, queued_s=started_s, scheduled_s=started_s, finished_s=started_s + 2)
    whole = Kept().record(times)["llm_request"]
    assert whole.end_time == pytest.approx(time.time_ns(), abs=5e9)


def test_attributes_are_those_of_the_field() -> None:
    found = dict(Kept().record()["llm_request"].attributes or {})
    assert found["gen_ai.request.id"] == "cmpl-a"
    assert (found["gen_ai.request.temperature"], found["gen_ai.request.max_tokens"]) == (0.5, 7)
    assert (found["gen_ai.usage.prompt_tokens"], found["gen_ai.usage.completion_tokens"]) == (10, 6)
    assert (found["gen_ai.latency.time_in_queue"], found["gen_ai.latency.e2e"]) == (2, 10)
    assert (found["gen_ai.latency.time_to_first_token"], found["kvik.cached_tokens"]) == (4.5, 8)


def test_the_parent_comes_from_the_headers() -> None:
    trace_id, parent_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    whole = Kept().record(traceparent=f"00-{trace_id}-{parent_id}-01", tracestate="a=b")["llm_request"]
    assert whole.context is not None
    assert whole.parent is not None
    assert f"{whole.context.trace_id:032x}" == trace_id
    assert f"{whole.parent.span_id:016x}" == parent_id
    assert whole.context.trace_state.get("a") == "b"


@pytest.mark.parametrize("header", ["", "nonsense", "00-0-0-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_header_that_is_none_begins_a_trace(header: str) -> None:
    assert Kept().record(traceparent=header)["llm_request"].parent is None


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_what_went_wrong_says_so(reason: str) -> None:
    aborted = RequestTimes(BASE_S, BASE_S + 1, finished_s=BASE_S + 5, finish_reason=reason)
    spans = Kept().record(aborted)
    assert spans["llm_request"].status.status_code is StatusCode.ERROR
    assert {"llm_request", "prepare", "queue"} == spans.keys(), "it never ran"
    assert Kept().record()["llm_request"].status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("reason", ["stop, abort", "length, error"])
def test_one_answer_that_went_wrong_is_enough(reason: str) -> None:
    status = Kept().record(replace(TIMES, finish_reason=reason))["llm_request"].status
    assert (status.status_code, status.description) == (StatusCode.ERROR, reason.split(", ")[1])


def test_who_is_aborted_in_its_prefill_was_in_it() -> None:
    aborted = RequestTimes(BASE_S, BASE_S + 1, BASE_S + 2, finished_s=BASE_S + 5, finish_reason="abort")
    assert seconds(Kept().record(aborted)["prefill"]) == pytest.approx(3)


def test_a_start_is_a_trace_too() -> None:
    kept = Kept()
    kept.tracer.record_start([Phase("a", "api", 1.0, 2.0), Phase("b", "engine", 2.0, 4.0, 7)], 0.5)
    spans = kept.spans()
    assert seconds(spans["startup"]) == pytest.approx(3.5)
    assert dict(spans["b"].attributes or {}) == {"kvik.process": "engine", "kvik.num_bytes": 7}


class Collector(SpanExporter):
    """Fails while `is_down`, or keeps whoever sends until `free` is set."""

    def __init__(self) -> None:
        self.is_down = False
        self.num_sent = 0
        self.free = threading.Event()
        self.free.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.free.wait(30)
        if self.is_down:
            raise ConnectionError("refused")
        self.num_sent += len(spans)
        return SpanExportResult.SUCCESS


def test_what_is_left_is_sent_at_the_end() -> None:
    collector = Collector()
    tracer = Tracer(export.open_provider(TARGET, collector))
    tracer.record({}, "cmpl-a", "m", SamplingParams(), TIMES)
    tracer.close()
    assert collector.num_sent == 5


def test_a_collector_that_does_not_answer_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "END_TIMEOUT_S", 0.05)
    collector = Collector()
    collector.free.clear()
    tracer = Tracer(export.open_provider(TARGET, collector))
    began_s = time.monotonic()
    for _ in range(2000):  # more spans than are kept
        tracer.record({}, "cmpl-a", "m", SamplingParams(), TIMES)
    tracer.close()
    assert time.monotonic() - began_s < 20
    collector.free.set()


def test_a_collector_that_is_too_slow_is_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("kvik"), "propagate", True)
    caplog.set_level(logging.INFO, "kvik")
    watched = export._Watched(Collector(), TARGET.url, max_queue_size=4)
    for _ in range(2):
        for _ in range(6):
            watched.queued()
        assert len(caplog.records) == 1
        assert "some are lost" in caplog.text
        watched.export([])
    watched.export([None] * 4)  # type: ignore[list-item]
    for _ in range(5):
        watched.queued()
    assert len(caplog.records) == 2


def test_the_environment_may_name_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    assert export._resource().attributes["service.name"] == "kvik"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine,team=a")
    assert export._resource().attributes["service.name"] == "mine"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    assert export._resource().attributes["service.name"] == "ours"


def test_a_collector_that_is_away_is_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("kvik"), "propagate", True)
    caplog.set_level(logging.INFO, "kvik")
    collector = Collector()
    quiet = export._Watched(collector, TARGET.url, TARGET.max_queue_size)
    for collector.is_down in (True, True, False, False, True):
        quiet.export([])
    words = [record.getMessage().split(" to ")[0] for record in caplog.records]
    assert words == ["traces cannot be sent", "traces are sent", "traces cannot be sent"]
