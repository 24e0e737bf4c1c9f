"""From the first signal to the end: what runs may finish, what comes is refused or left to another server.

Knows no routes; `ServerState` says to them where the server is.
"""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from kvik.server.hand_over import HandOver, stop_listening
from kvik.server.http_protocol import ConnectionRules, LimitedHttpProtocol
from kvik.server.responses import settle
from kvik.server.state import ServerState
from kvik.server.systemd import ServiceManager
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


class Shutdown:
    """Drains on the first signal, for --shutdown-timeout at most; the second one ends everything at once."""

    def __init__(
        self,
        server: uvicorn.Server,
        state: ServerState,
        rules: ConnectionRules,
        sock: socket.socket,
        hand_over: HandOver,
        manager: ServiceManager,
    ) -> None:
        """`rules` are those of the server's connections, `sock` is what it listens on."""
        self._server = server
        self._state = state
        self._rules = rules
        self._sock = sock
        self._hand_over = hand_over
        self._manager = manager
        self._drain: asyncio.Future[None] | None = None

    def on_signal(self, count: int) -> None:
        if count == 1:
            self._state.is_draining = True
            self._state.is_handing_over = self._hand_over is not HandOver.NOBODY
            self._rules.closes_after_answer = True
            self._manager.stopping()
            self._drain = asyncio.ensure_future(self._run())
        else:
            logger.info("Shutdown at once, without waiting for running requests")
            self._server.should_exit = True
            if self._drain is not None:
                self._drain.cancel()
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, LimitedHttpProtocol):
                    connection.abort()

    async def _run(self) -> None:
        timeout_s = float(self._state.config.shutdown_timeout)
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        logger.info("Shutdown begins: no new requests; running ones get up to %d s", timeout_s)
        try:
            if self._state.is_handing_over:
                await self._serve_the_rest(deadline_s)
            await self._finish_requests(deadline_s)
            await self._state.client.shutdown(drain_timeout_s=_left_s(deadline_s))
        finally:
            self._server.should_exit = True

    async def _serve_the_rest(self, deadline_s: float) -> None:
        """New connections are for the other server; each of those that are there may have one more answer."""
        await stop_listening(self._server.servers, self._sock, self._hand_over)
        logger.info("not listening any more; %d connections are open", len(self._server.server_state.connections))
        while self._server.server_state.connections and _left_s(deadline_s):
            await asyncio.sleep(0.05)
        self._state.is_handing_over = False

    async def _finish_requests(self, deadline_s: float) -> None:
        """Wait for what runs now. A request may be several of the engine, one after the other, and has to be sent."""
        running = set(self._server.server_state.tasks)
        if running and _left_s(deadline_s):
            await asyncio.wait(running, timeout=_left_s(deadline_s))

    async def finish(self) -> None:
        """Wait for the end of a drain; log what went wrong with it."""
        if self._drain is None:
            return
        await settle(self._drain)
        if not self._drain.cancelled() and self._drain.exception() is not None:
            logger.error("the drain failed: %s", self._drain.exception())


def _left_s(deadline_s: float) -> float:
    return max(0.0, deadline_s - asyncio.get_running_loop().time())
