"""Who is let in: nobody new while the server is drained or goes down; how many are inside; what their bodies hold."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvik.server.error_shapes import refusal
from kvik.server.errors import DrainingError, describe
from kvik.server.middleware.paths import is_new_work, is_open, route_path
from kvik.server.state import ServerState


class AdmissionMiddleware:
    """503 with Retry-After for what acts, while draining or dead; counts requests with --enable-server-load-tracking.

    Probes and metrics pass: they tell of the drain.
    """

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self.app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(route_path(scope)):
            await self.app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            await refusal(scope, describe(problem), headers={"Connection": "close"})(scope, receive, send)
        elif scope["method"] == "POST":
            await self._with_body(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _problem(self, scope: Scope) -> Exception | None:
        if self._state.is_draining and not self._state.is_handing_over:
            return DrainingError("the server is shutting down and takes no new requests; try another one, or later")
        if self._state.is_closed and is_new_work(scope["method"], route_path(scope)):
            return DrainingError("the server is being drained and takes no new requests; try another one, or later")
        if self._state.client.is_dead:
            return DrainingError("the engine has died and the server is going down; try again later")
        return None

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Book the body's bytes as they come, until the request has ended. Too many raise `QueueFullError` inside."""
        account, num_bytes = self._state.open_bodies, 0

        async def booking_receive() -> Message:
            nonlocal num_bytes
            message = await receive()
            part = len(message.get("body", b""))
            if part:
                account.take(part)
                num_bytes += part
            return message

        try:
            await self._counted(scope, booking_receive, send)
        finally:
            account.give_back(num_bytes)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._state.config.enable_server_load_tracking:
            await self.app(scope, receive, send)
            return
        self._state.num_in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._state.num_in_flight -= 1
