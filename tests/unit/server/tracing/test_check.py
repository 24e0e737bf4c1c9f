"""Where traces are to go, and what is said of addresses that cannot be meant."""

from __future__ import annotations

import pytest

from kvik.errors import ConfigError
from kvik.server.tracing import check
from kvik.server.tracing.check import Target, read_target

HTTP, GRPC = "http/protobuf", "grpc"


def installed(monkeypatch: pytest.MonkeyPatch, *protocols: str) -> None:
    modules = {check._EXPORTERS[protocol][0] for protocol in protocols}  # type: ignore[index]
    monkeypatch.setattr(check, "_is_there", lambda module: module in modules)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/otlp/v1/traces", "https://h/otlp/v1/traces"),
        ("http://h:4318?tenant=a", "http://h:4318/v1/traces?tenant=a"),
    ],
)
def test_addresses_for_http(endpoint: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, HTTP)
    assert read_target(endpoint, {}) == Target(url, "http/protobuf", 2048)


def test_the_port_of_grpc_means_grpc_unless_something_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, HTTP, GRPC)
    assert read_target("http://h:4317", {}) == Target("http://h:4317", "grpc", 2048)
    assert read_target("grpc://h:9999", {}) == Target("http://h:9999", "grpc", 2048)
    assert read_target("grpcs://h:9999", {}) == Target("https://h:9999", "grpc", 2048)
    asked = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": HTTP}
    assert read_target("http://h:4317", asked) == Target("http://h:4317/v1/traces", "http/protobuf", 2048)
    assert read_target("http://h:9", {"OTEL_EXPORTER_OTLP_PROTOCOL": GRPC}).protocol == "grpc"


@pytest.mark.parametrize("endpoint", ["h:4318", "ftp://h", "http://", "http://h:port", ""])
def test_what_is_no_address(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, HTTP)
    with pytest.raises(ConfigError, match="--otlp-traces-endpoint"):
        read_target(endpoint, {})


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(ConfigError, match=r"pip install 'kvik\[tracing\]'"):
        read_target("http://h:4318", {})
    installed(monkeypatch, HTTP)
    with pytest.raises(ConfigError, match="otlp-proto-grpc'; or give the collector's address for HTTP"):
        read_target("http://h:4317", {})
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_TRACES_PROTOCOL takes"):
        read_target("http://h:4318", {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "carrier pigeon"})


def test_the_queue_of_spans() -> None:
    assert read_target("http://h:4318", {"OTEL_BSP_MAX_QUEUE_SIZE": " 16 "}).max_queue_size == 16
    for text in ("many", "0", "-1", "1.5"):
        with pytest.raises(ConfigError, match=f"OTEL_BSP_MAX_QUEUE_SIZE takes a number of spans, .* got '{text}'"):
            read_target("http://h:4318", {"OTEL_BSP_MAX_QUEUE_SIZE": text})
