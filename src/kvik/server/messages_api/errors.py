"""Failures in the shape that Anthropic's clients unpack: `{"type": "error", "error": {"type", "message"}}`."""

from __future__ import annotations

from typing import Any

from kvik.server.errors import ErrorInfo

PATH_PREFIX = "/v1/messages"
"""Of the routes that answer in this shape."""

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def speaks_messages(path: str) -> bool:
    """A route of this API, or a path below it."""
    return path == PATH_PREFIX or path.startswith(PATH_PREFIX + "/")


def error_body(info: ErrorInfo) -> dict[str, Any]:
    kind = _TYPES.get(info.status, "api_error" if info.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": info.message}}
