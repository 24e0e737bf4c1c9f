"""uvicorn on a bound socket, until a signal or the engine's death ends it. Knows no routes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from kvik.config.frontend import ServerConfig
from kvik.errors import ConfigError, EngineDeadError
from kvik.server.http_protocol import limited_protocol
from kvik.server.lifecycle import Stop
from kvik.server.responses import settle
from kvik.server.sockets import taken
from kvik.server.state import ServerState
from kvik.telemetry.log import get_logger

if TYPE_CHECKING:
    from kvik.engine_client.protocol import EngineClient

logger = get_logger(__name__)

KEEP_ALIVE_S = 5
SEND_GRACE_S = 5
"""For the last bytes of answers, once all of them have ended."""


async def serve_http(app: ASGIApp, sock: socket.socket, state: ServerState, stop: Stop) -> None:
    """Serve until told to stop, then drain. Raises `EngineDeadError` when the engine died meanwhile."""
    server = _Server(_uvicorn_config(app, state.config), state.client)
    shutdown = _Shutdown(server, state)
    stop.on_signal = shutdown.on_signal
    if stop.was_asked:
        shutdown.on_signal(stop.num_signals)
    try:
        await server.serve(sockets=[sock])
    except OSError as error:
        raise taken(f"the address {sock.getsockname()}") from error
    finally:
        await shutdown.finish()
    if server.engine_has_died:
        raise EngineDeadError("the engine has died; its own log lines above say why")


class _Server(uvicorn.Server):
    """Leaves the signals alone, and ends by itself when the engine is dead."""

    def __init__(self, config: uvicorn.Config, client: EngineClient) -> None:
        super().__init__(config)
        self._client = client
        self.engine_has_died = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if self._client.is_dead and not self.should_exit:
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
            self._server.force_exit = self._server.should_exit = True
            if self._drain is not None:
                self._drain.cancel()

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


def _uvicorn_config(app: ASGIApp, config: ServerConfig) -> uvicorn.Config:
    if config.disable_access_log_for_endpoints:
        paths = frozenset(path.strip() for path in config.disable_access_log_for_endpoints.split(","))
        logging.getLogger("uvicorn.access").addFilter(_QuietPaths(paths))
    result = uvicorn.Config(
        app,
        http=limited_protocol(config.h11_max_incomplete_event_size, config.h11_max_header_count),
        ws="none",
        lifespan="on",
        log_level=config.uvicorn_log_level,
        access_log=not config.disable_uvicorn_access_log,
        root_path="",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SEND_GRACE_S,
        server_header=False,
        ssl_keyfile=config.ssl_keyfile,
        ssl_certfile=config.ssl_certfile,
        ssl_ca_certs=config.ssl_ca_certs,
        ssl_cert_reqs=config.ssl_cert_reqs,
        ssl_ciphers=config.ssl_ciphers,
    )
    try:
        result.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--ssl-certfile, --ssl-keyfile, --ssl-ca-certs or --ssl-ciphers: {error}") from error
    return result


class _QuietPaths(logging.Filter):
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
