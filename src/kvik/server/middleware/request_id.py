"""Every response says which request it answers: with --enable-request-id-headers, and always below /v1/messages, whose
client library hands the header on."""

from __future__ import annotations

import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvik.server.messages_api.errors import speaks_messages
from kvik.server.middleware.paths import route_path

_NAME = b"x-request-id"
_MESSAGES_NAME = b"request-id"
_MAX_ECHOED_CHARS = 128


class RequestIdMiddleware:
    """Sets X-Request-Id if asked, and request-id of Messages: the request's own id if it is fit, or a fresh one."""

    def __init__(self, app: ASGIApp, on_all: bool) -> None:
        self.app = app
        self._on_all = on_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = self._names(scope)
        if not names:
            await self.app(scope, receive, send)
            return
        value = _asked_id(scope) or uuid.uuid4().hex.encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *((name, value) for name in names)]
            await send(message)

        await self.app(scope, receive, send_with_id)

    def _names(self, scope: Scope) -> list[bytes]:
        if scope["type"] != "http":
            return []
        names = [_NAME] if self._on_all else []
        return [*names, _MESSAGES_NAME] if speaks_messages(route_path(scope)) else names


def _asked_id(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == _NAME:
            fits = 0 < len(value) <= _MAX_ECHOED_CHARS and all(32 <= byte < 127 for byte in value)
            return bytes(value) if fits else None
    return None
