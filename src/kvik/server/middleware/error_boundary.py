"""The last resort: whatever a handler raises becomes an answer in the error shape of its route, and is logged once."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvik.errors import EngineDeadError, KvikError
from kvik.server.error_shapes import refusal
from kvik.server.errors import ClientDisconnectedError, describe, describe_status
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

_CLIENT_GONE = 499
"""Seen by nobody but the metrics."""
_FRAMEWORK_MESSAGES = {
    404: "no such route: {method} {path}; GET /openapi.json lists the routes",
    405: "{path} does not take {method}; see the Allow header",
}


class ErrorBoundaryMiddleware:
    """Stands right around the routes."""

    def __init__(self, app: ASGIApp, log_stacks: bool) -> None:
        self.app = app
        self._log_stacks = log_stacks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_started = False

        async def watching_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.app(scope, receive, watching_send)
        except Exception as error:
            if has_started:
                raise
            await self._answer(error, scope)(scope, receive, send)

    def _answer(self, error: Exception, scope: Scope) -> Response:
        if isinstance(error, ClientDisconnectedError):
            return Response(status_code=_CLIENT_GONE)
        info = describe(error)
        if isinstance(error, EngineDeadError):
            logger.error("%s %s failed: the engine is dead", scope["method"], scope["path"])
        elif not isinstance(error, KvikError):
            logger.error("%s %s failed in an unforeseen way", scope["method"], scope["path"], exc_info=error)
        elif info.is_ours or self._log_stacks:
            logger.error("%s failed: %s", scope["path"], error, exc_info=error if self._log_stacks else None)
        return refusal(scope, info)


async def framework_error(request: Request, error: Exception) -> Response:
    """404, 405 and the like, which the router raises itself: the error body beside the framework's `detail`."""
    assert isinstance(error, HTTPException)
    template = _FRAMEWORK_MESSAGES.get(error.status_code)
    message = template.format(method=request.method, path=request.url.path[:200]) if template else error.detail
    headers = dict(error.headers or {})
    return refusal(request.scope, describe_status(error.status_code, message), detail=error.detail, headers=headers)
