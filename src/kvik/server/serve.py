"""uvicorn on a bound socket, until a signal or the engine's death ends it. Knows no routes."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from kvik.config.frontend import ServerConfig
from kvik.errors import EngineDeadError
from kvik.server.http_protocol import LimitedHttpProtocol, limited_protocol
from kvik.server.lifecycle import Stop
from kvik.server.responses import settle
from kvik.server.sockets import taken
from kvik.server.state import ServerState
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

BACKLOG = 2048
KEEP_ALIVE_S = 5
SEND_GRACE_S = 5
"""For the last bytes of answers, once all of them have ended."""


async def serve_http(
    app: ASGIApp, sock: socket.socket, state: ServerState, stop: Stop, on_startup: Callable[[], None] = lambda: None
) -> None:
    """Serve until told to stop, then drain; `on_startup` is called once connections are served.

    Raises `AddressTakenError`, and `EngineDeadError` when the engine died meanwhile.
    """
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        raise taken(f"the address {sock.getsockname()}") from error
    server = _Server(uvicorn_config(app, state.config), state, on_startup)
    shutdown = _Shutdown(server, state)
    stop.on_signal = shutdown.on_signal
    if stop.was_asked:
        shutdown.on_signal(stop.num_signals)
    try:
        await server.serve(sockets=[sock])
    finally:
        await shutdown.finish()
    if server.engine_has_died:
        raise EngineDeadError("the engine has died; its own log lines above say why")


class _Server(uvicorn.Server):
    """Leaves the signals alone, and ends by itself when the engine is dead."""

    def __init__(self, config: uvicorn.Config, state: ServerState, on_startup: Callable[[], None]) -> None:
        super().__init__(config)
        self._state = state
        self._on_startup = on_startup
        self.engine_has_died = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_startup()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if self._state.client.is_dead and not self._state.is_draining:
            self.engine_has_died = True
            return True
        return await super().on_tick(counter)


class _Shutdown:
    """Drains on the first signal: new work gets 503, what runs may end until --shutdown-timeout."""

    def __init__(self, server: uvicorn.Server, state: ServerState) -> None:
        self._server = server
        self._state = state
        self._drain: asyncio.Future[None] | None = None

    def on_signal(self, count: int) -> None:
        if count == 1:
            self._state.is_draining = True
            self._drain = asyncio.ensure_future(self._run())
        else:
            logger.info("Shutdown at once, without waiting for running requests")
            self._server.should_exit = True
            if self._drain is not None:
                self._drain.cancel()
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, LimitedHttpProtocol):
                    connection.transport.abort()

    async def _run(self) -> None:
        timeout_s = self._state.config.shutdown_timeout
        logger.info("Shutdown begins: no new requests; running ones get up to %d s", timeout_s)
        try:
            await self._state.client.shutdown(drain_timeout_s=float(timeout_s))
        finally:
            self._server.should_exit = True

    async def finish(self) -> None:
        """Wait for the end of a drain; log what went wrong with it."""
        if self._drain is None:
            return
        await settle(self._drain)
        if not self._drain.cancelled() and self._drain.exception() is not None:
            logger.error("the drain failed: %s", self._drain.exception())


def uvicorn_config(app: ASGIApp, config: ServerConfig) -> uvicorn.Config:
    """How requests are read and answered, whatever the socket."""
    if config.disable_access_log_for_endpoints:
        paths = frozenset(path.strip() for path in config.disable_access_log_for_endpoints.split(","))
        logging.getLogger("uvicorn.access").addFilter(QuietPaths(paths))
    return uvicorn.Config(
        app,
        http=limited_protocol(config.h11_max_incomplete_event_size, config.h11_max_header_count),
        ws="none",
        lifespan="on",
        log_config=log_config(),
        log_level=config.uvicorn_log_level,
        access_log=not config.disable_uvicorn_access_log,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SEND_GRACE_S,
        server_header=False,
        ssl_keyfile=config.ssl_keyfile,
        ssl_certfile=config.ssl_certfile,
        ssl_ca_certs=config.ssl_ca_certs,
        ssl_cert_reqs=config.ssl_cert_reqs,
        ssl_ciphers=config.ssl_ciphers,
    )


def log_config() -> dict[str, Any]:
    """uvicorn's own lines, with the prefix that all lines of this process have."""
    prefix = f"(APIServer pid={os.getpid()}) "
    config: dict[str, Any] = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    for formatter in config["formatters"].values():
        formatter |= {"fmt": prefix + formatter["fmt"], "use_colors": False}
    return config


class QuietPaths(logging.Filter):
    """Drops access lines of some paths."""

    def __init__(self, paths: frozenset[str]) -> None:
        super().__init__()
        self._paths = paths

    def filter(self, record: logging.LogRecord) -> bool:
        # uvicorn's arguments: client, method, path with query, HTTP version, status.
        arguments = record.args
        if not isinstance(arguments, tuple) or len(arguments) < 3:
            return True
        return str(arguments[2]).split("?")[0] not in self._paths
