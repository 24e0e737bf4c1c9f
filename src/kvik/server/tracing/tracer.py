"""One span per request and one per phase of it, with the attributes that the field gives them.

Made when a request has ended, from the times that were taken anyway: while it runs, tracing costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kvik.messages import Phase
from kvik.sampling_params import SamplingParams
from kvik.server.tracing.check import Target
from kvik.server.tracing.export import close_provider, open_provider
from kvik.telemetry.request_times import RequestTimes

_PARENT = TraceContextTextMapPropagator()
"""https://www.w3.org/TR/trace-context/"""
Attributes = dict[str, str | int | float]


class Tracer:
    """`close` at the end of the process."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("kvik")

    @classmethod
    def to(cls, target: Target) -> Tracer:
        return cls(open_provider(target))

    def record(
        self, headers: Mapping[str, str], request_id: str, model: str, params: SamplingParams, times: RequestTimes
    ) -> None:
        """A request has ended. `headers` of it may name the span that it is a part of."""
        at_ns = _EpochClock()
        span = self._tracer.start_span(
            "llm_request",
            context=_PARENT.extract(headers),
            kind=SpanKind.SERVER,
            attributes=_attributes(request_id, model, params, times),
            start_time=at_ns(times.arrival_s),
        )
        reasons = (times.finish_reason or "not finished").split(", ")  # one per answer that ended in a way of its own
        if bad := [reason for reason in reasons if reason in ("not finished", "error", "abort")]:
            span.set_status(Status(StatusCode.ERROR, ", ".join(bad)))
        inside = trace.set_span_in_context(span)
        for name, start_s, end_s, more in _phases(times):
            phase = self._tracer.start_span(name, context=inside, start_time=at_ns(start_s), attributes=more)
            phase.end(at_ns(end_s))
        span.end(at_ns(times.finished_s or times.last_token_s or time.monotonic()))

    def record_start(self, phases: Sequence[Phase], began_s: float) -> None:
        """The server is ready: a span for its start, with one per phase."""
        at_ns = _EpochClock()
        start = self._tracer.start_span("startup", start_time=at_ns(began_s))
        inside = trace.set_span_in_context(start)
        last_s = began_s
        for phase in phases:
            end_s = phase.start_s if phase.end_s is None else phase.end_s
            last_s = max(last_s, end_s)
            span = self._tracer.start_span(
                phase.name, context=inside, start_time=at_ns(phase.start_s), attributes=_phase_attributes(phase)
            )
            span.end(at_ns(end_s))
        start.end(at_ns(last_s))

    def close(self) -> None:
        close_provider(self._provider)


class _EpochClock:
    """From seconds on CLOCK_MONOTONIC to nanoseconds since 1970, by how far both are apart now."""

    def __init__(self) -> None:
        self._apart_ns = time.time_ns() - time.monotonic_ns()

    def __call__(self, time_s: float) -> int:
        return self._apart_ns + int(time_s * 1e9)


def _attributes(request_id: str, model: str, params: SamplingParams, times: RequestTimes) -> Attributes:
    """https://opentelemetry.io/docs/specs/semconv/gen-ai/, the latencies as the field's servers name them."""
    found: dict[str, str | int | float | None] = {
        "gen_ai.request.id": request_id,
        "gen_ai.response.model": model,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.n": params.n,
        "gen_ai.usage.prompt_tokens": times.num_prompt_tokens,
        "gen_ai.usage.completion_tokens": times.num_tokens,
        "gen_ai.latency.time_in_queue": times.queue_s,
        "gen_ai.latency.time_to_first_token": times.first_token_latency_s or None,
        "gen_ai.latency.e2e": times.total_s,
        "gen_ai.latency.time_in_model_prefill": times.prefill_s,
        "gen_ai.latency.time_in_model_decode": times.decode_s,
        "gen_ai.latency.time_in_model_inference": times.inference_s,
        "kvik.finish_reason": times.finish_reason,
        "kvik.cached_tokens": times.num_cached_tokens,
        "kvik.preemptions": times.num_preemptions,
        "kvik.detokenize_s": times.detokenize_s,
    }
    return {name: value for name, value in found.items() if value is not None}


def _phases(times: RequestTimes) -> list[tuple[str, float, float, Attributes]]:
    """Name, start, end and attributes of those that there were."""
    waited: Attributes = {"kvik.waiting_for": times.waiting_for} if times.waiting_for else {}
    cached: Attributes = {"kvik.cached_tokens": times.num_cached_tokens}
    generated: Attributes = {"gen_ai.usage.completion_tokens": times.num_tokens}
    phases = [
        ("prepare", times.arrival_s, times.queued_s, {}),
        ("queue", times.queued_s, times.scheduled_s or times.finished_s, waited),
        ("prefill", times.scheduled_s, times.first_token_s or times.finished_s, cached),
        ("decode", times.first_token_s, times.last_token_s, generated),
    ]
    return [(name, start_s, end_s, more) for name, start_s, end_s, more in phases if start_s and end_s >= start_s]


def _phase_attributes(phase: Phase) -> Attributes:
    size: Attributes = {} if phase.num_bytes is None else {"kvik.num_bytes": phase.num_bytes}
    return {"kvik.process": phase.process} | size
