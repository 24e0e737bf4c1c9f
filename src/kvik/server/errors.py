"""From an exception to the status and body of an answer: the one place that knows both.

Body: `{"error": {"message", "type", "param", "code"}}`, `code` being the HTTP status. Answers that the web
framework gives by itself (no such route, wrong method) also keep its `detail` key, which some clients read.

A 401 differs from the field's `{"error": "Unauthorized"}`: the error is an object here as everywhere else, since
that is what client libraries unpack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from kvik.errors import (
    ConstraintError,
    EngineCallError,
    EngineDeadError,
    EngineRequestError,
    InvalidRequestError,
    KvikError,
    QueueFullError,
    RequestError,
)

RETRY_AFTER_S = 5
"""Told to clients that are turned away for now."""

NEEDS_KEY = "a valid API key is needed: send the header 'Authorization: Bearer KEY', or 'x-api-key: KEY'"

_UNFORESEEN = "the server failed in an unforeseen way; its log has the details"
_ENGINE_DIED = "the engine has died; the request is lost and the server is going down"
_TYPES = {
    HTTPStatus.UNAUTHORIZED: "AuthenticationError",
    HTTPStatus.FORBIDDEN: "PermissionDeniedError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowedError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
}


class InvalidBodyError(RequestError):
    """The body is not JSON, or not of the shape that the endpoint reads."""

    type = "Bad Request"


class BodyTooLargeError(RequestError):
    """The body is longer than this server takes."""

    status = 413
    type = "RequestEntityTooLargeError"


class BodyTooSlowError(RequestError):
    """The body did not come within the time for it."""

    status = 408
    type = "RequestTimeoutError"


class PermissionDeniedError(RequestError):
    """The operator has not allowed this."""

    status = 403
    type = "PermissionDeniedError"


class DrainingError(RequestError):
    """The server is going down and takes no more work."""

    status = 503
    type = "ServiceUnavailableError"


class ClientDisconnectedError(Exception):
    """Nobody waits for the answer any more. Not an error of anyone's; never shown."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What is told to the client about a failure."""

    message: str
    type: str
    status: int
    param: str | None = None
    retry_after_s: int | None = None
    """With 429 and 503; None: `RETRY_AFTER_S`."""

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.status}
        return {"error": error}

    @property
    def is_ours(self) -> bool:
        return self.status == HTTPStatus.INTERNAL_SERVER_ERROR


def describe(error: Exception) -> ErrorInfo:
    """What to answer when `error` ended a request."""
    if isinstance(error, RequestError):
        retry_after_s = error.retry_after_s if isinstance(error, QueueFullError) else None
        return ErrorInfo(_with_param(error), error.type, error.status, error.param, retry_after_s)
    if isinstance(error, EngineDeadError):
        return ErrorInfo(_ENGINE_DIED, "InternalServerError", 500)
    if isinstance(error, ConstraintError):
        return ErrorInfo(str(error), "BadRequestError", 400, error.param)
    if isinstance(error, EngineRequestError | EngineCallError):
        return ErrorInfo(scrub(str(error)), "InternalServerError", 500)
    return ErrorInfo(_UNFORESEEN, "InternalServerError", 500)


def is_foreseen(error: Exception) -> bool:
    """Raised on purpose: its message says all there is, and a traceback would say no more."""
    return isinstance(error, KvikError)


def describe_status(status: int, message: str) -> ErrorInfo:
    """What to answer when the framework refuses a request with a bare status."""
    name = _TYPES.get(HTTPStatus(status), HTTPStatus(status).phrase)
    return ErrorInfo(message, name, status)


def scrub(text: str) -> str:
    """`text` without what concerns only us: addresses of objects, paths of files, tracebacks."""
    text = text.split("Traceback (most recent call last)")[0]
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", text)
    text = re.sub(r"(?<![\w/:.])/(?:[\w.+@-]+/)+[\w.+@-]*", "<path>", text)
    return text.strip() or _UNFORESEEN


def _with_param(error: RequestError) -> str:
    if isinstance(error, InvalidRequestError) and error.param:
        return f"{error.message} (parameter={error.param})"
    return error.message
