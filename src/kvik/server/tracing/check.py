"""Whether spans can be sent as the flags ask, said at the start. Imports nothing of OpenTelemetry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal
from urllib.parse import urlsplit

from kvik.errors import ConfigError

Protocol = Literal["http/protobuf", "grpc"]

_FLAG = "--otlp-traces-endpoint"
_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
"""Of the specification: https://opentelemetry.io/docs/specs/otel/protocol/exporter/"""
_QUEUE_SIZE, _MAX_QUEUE_SIZE = "OTEL_BSP_MAX_QUEUE_SIZE", "2048"
_GRPC_PORT = 4317
_EXPORTERS: dict[Protocol, tuple[str, str]] = {
    "http/protobuf": ("opentelemetry.exporter.otlp.proto.http", "kvik[tracing]"),
    "grpc": ("opentelemetry.exporter.otlp.proto.grpc", "opentelemetry-exporter-otlp-proto-grpc"),
}
"""Module, and the package that brings it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where spans go."""

    url: str
    protocol: Protocol
    max_queue_size: int
    """Spans that wait to be sent; more are lost."""


def read_target(endpoint: str, environ: Mapping[str, str] = os.environ) -> Target:
    """Raises `ConfigError` for an address that is none, a protocol that is none, or a package that is not installed."""
    endpoint, is_grpc = _as_http(endpoint)
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{_FLAG} takes a URL such as http://127.0.0.1:4318, got {endpoint!r}")
    protocol = _protocol(environ)
    if protocol is None:
        protocol = "grpc" if is_grpc or _port_of(endpoint) == _GRPC_PORT else "http/protobuf"
    _check_installed(protocol, endpoint)
    if protocol == "http/protobuf" and parts.path in ("", "/"):
        endpoint = parts._replace(path="/v1/traces").geturl()
    return Target(endpoint, protocol, _queue_size(environ))


def _as_http(endpoint: str) -> tuple[str, bool]:
    """grpc://HOST and grpcs://HOST, as some write it, are http and https with gRPC in them."""
    scheme, colon, rest = endpoint.partition("://")
    plain = {"grpc": "http", "grpcs": "https"}.get(scheme)
    return (endpoint, False) if plain is None else (plain + colon + rest, True)


def _port_of(endpoint: str) -> int | None:
    try:
        return urlsplit(endpoint).port
    except ValueError as error:
        raise ConfigError(f"{_FLAG} {endpoint}: {error}") from None


def _protocol(environ: Mapping[str, str]) -> Protocol | None:
    """What the environment asks for."""
    for name in _VARIABLES:
        match environ.get(name, ""):
            case "":
                continue
            case "grpc":
                return "grpc"
            case "http/protobuf":
                return "http/protobuf"
            case other:
                raise ConfigError(f"{name} takes http/protobuf or grpc, got {other!r}")
    return None


def _queue_size(environ: Mapping[str, str]) -> int:
    text = environ.get(_QUEUE_SIZE, "").strip() or _MAX_QUEUE_SIZE
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{_QUEUE_SIZE} takes a number of spans, 1 or more, got {text!r}")
    return int(text)


def _check_installed(protocol: Protocol, endpoint: str) -> None:
    module, package = _EXPORTERS[protocol]
    if _is_there(module):
        return
    instead = ""
    if protocol == "grpc" and _is_there(_EXPORTERS["http/protobuf"][0]):
        instead = "; or give the collector's address for HTTP, usually port 4318"
    raise ConfigError(f"{_FLAG} {endpoint} speaks {protocol}, which needs a package: pip install '{package}'{instead}")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package around it
        return False
