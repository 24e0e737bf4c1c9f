from __future__ import annotations

from prometheus_client import CollectorRegistry

from kvik.telemetry.http_metrics import NOT_INSTRUMENTED, UNTEMPLATED, HttpMetrics


def test_a_request_is_counted_timed_and_weighed() -> None:
    registry = CollectorRegistry()
    metrics = HttpMetrics(registry)
    metrics.record("/v1/models", "GET", 200, 0.2, 0, 300)
    metrics.record("/v1/models", "GET", 204, 0.05, 0, 100)
    metrics.record(UNTEMPLATED, "POST", 404, 0.2, 50, 10)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("http_requests_total", handler="/v1/models", method="GET", status="2xx") == 2
    assert value("http_requests_total", handler="none", method="POST", status="4xx") == 1
    assert value("http_request_size_bytes_sum", handler="none") == 50
    assert value("http_response_size_bytes_sum", handler="/v1/models") == 400
    assert value("http_response_size_bytes_count", handler="/v1/models") == 2
    assert value("http_request_duration_seconds_bucket", handler="/v1/models", method="GET", le="0.1") == 1
    assert value("http_request_duration_highr_seconds_count") == 3
    assert value("http_request_duration_highr_seconds_bucket", le="60.0") == 3


def test_probes_are_not_instrumented() -> None:
    assert {"/metrics", "/health"} <= NOT_INSTRUMENTED
