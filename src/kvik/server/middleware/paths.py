"""Paths as routes see them, and the few that only tell. Knows no request, and no key: see access/scopes.py."""

from __future__ import annotations

from starlette.types import Scope

PROBE_PATHS = frozenset({"/health", "/live", "/ready", "/ping", "/load", "/version", "/startup"})
"""Asked by machines, often; they never act."""
GENERATION_PATHS = frozenset({
    "/v1/chat/completions", "/v1/chat/completions/batch", "/v1/completions", "/v1/messages", "/v1/responses",
    "/inference/v1/generate", "/generative_scoring", "/invocations",
})  # fmt: skip
"""What is POSTed there becomes work for the engine."""
TELLING_PATHS = frozenset({"/plan", "/debug/requests"})
"""What is going on in here; asked most while something goes on, as a drain."""
POLLED_PATHS = frozenset({"/startup", "/metrics", *TELLING_PATHS})
"""What the page at /ui asks for each second."""
DOCS_PATHS = frozenset({"/docs", "/redoc", "/openapi.json"})

OPERATOR_PATHS = frozenset({
    "/drain", "/undrain", "/abort_requests", "/v1/abort", "/pause", "/resume", "/sleep", "/wake_up",
    "/release_kv_cache_memory", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache", "/collective_rpc",
})  # fmt: skip
"""What operators POST to; no work for the engine."""


def route_path(scope: Scope) -> str:
    """The path without the prefix of --root-path, exactly as the router strips it."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    if root_path and path == root_path:
        return ""
    return path[len(root_path) :] if root_path and path.startswith(root_path + "/") else path


def is_metrics(path: str) -> bool:
    return path.startswith("/metrics")


def is_page(path: str) -> bool:
    return path == "/ui" or path.startswith("/ui/")


def is_open(path: str) -> bool:
    """Answered while the server drains too: probes, metrics, what is going on, documentation. Everything else acts."""
    return path in PROBE_PATHS or path in TELLING_PATHS or path in DOCS_PATHS or is_metrics(path) or is_page(path)


def is_new_work(method: str, path: str) -> bool:
    """Whether a request may keep the engine busy; what asks for results, ends requests or runs the server may not."""
    return method in ("POST", "PUT", "PATCH") and path not in OPERATOR_PATHS and not path.endswith("/cancel")
