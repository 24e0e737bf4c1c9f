"""Every request has an id from here on, which stands in the log lines about it and is the base of its answer's id.

The response says it with --enable-request-id-headers, and always below /v1/messages, whose client library hands the
header on.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvik.server.messages_api.errors import speaks_messages
from kvik.server.middleware.paths import route_path
from kvik.server.request_id import SCOPE_KEY, new_request_id
from kvik.telemetry.log import mark_request

_NAME = b"x-request-id"
_MESSAGES_NAME = b"request-id"
_MAX_ECHOED_CHARS = 128


class RequestIdMiddleware:
    """The id is X-Request-Id of the request if it is fit, or a fresh one. Sets that header of the answer if asked,
    and request-id of Messages."""

    def __init__(self, app: ASGIApp, on_all: bool) -> None:
        self.app = app
        self._on_all = on_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _asked_id(scope) or new_request_id()
        scope[SCOPE_KEY] = request_id
        mark_request(request_id)
        names = self._names(scope)
        if not names:
            await self.app(scope, receive, send)
            return
        value = request_id.encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *((name, value) for name in names)]
            await send(message)

        await self.app(scope, receive, send_with_id)

    def _names(self, scope: Scope) -> list[bytes]:
        names = [_NAME] if self._on_all else []
        return [*names, _MESSAGES_NAME] if speaks_messages(route_path(scope)) else names


def _asked_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _NAME:
            fits = 0 < len(value) <= _MAX_ECHOED_CHARS and all(32 <= byte < 127 for byte in value)
            return value.decode("ascii") if fits else None
    return None
