"""--enable-request-id-headers: every response says which request it answers."""

from __future__ import annotations

import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NAME = b"x-request-id"
_MAX_ECHOED_CHARS = 128


class RequestIdMiddleware:
    """Sets X-Request-Id: the request's, where it is fit to be repeated, or a fresh one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        value = _asked_id(scope) or uuid.uuid4().hex.encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_NAME, value)]
            await send(message)

        await self.app(scope, receive, send_with_id)


def _asked_id(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == _NAME:
            fits = 0 < len(value) <= _MAX_ECHOED_CHARS and all(32 <= byte < 127 for byte in value)
            return bytes(value) if fits else None
    return None
