"""uvicorn on a bound socket, until a signal or the engine's death ends it. Knows no routes."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn
import uvicorn.logging
from fastapi import FastAPI
from starlette.types import ASGIApp

from kvik.config.frontend import ServerConfig
from kvik.errors import EngineDeadError
from kvik.server.hand_over import HandOver
from kvik.server.http_protocol import ConnectionRules, LimitedHttpProtocol, limited_protocol
from kvik.server.lifecycle import Stop
from kvik.server.shutdown import Shutdown
from kvik.server.slow_clients import ClientWatch
from kvik.server.sockets import taken
from kvik.server.starting.front_desk import BACKLOG, FrontDesk
from kvik.server.state import ServerState
from kvik.server.systemd import ServiceManager
from kvik.telemetry.connection_metrics import ConnectionMetrics
from kvik.telemetry.log import request_mark

KEEP_ALIVE_S = 5
SEND_GRACE_S = 5
"""For the last bytes of answers, once all of them have ended."""
_TICKS_PER_LOOK = 5
"""Clients are looked at twice a second."""


async def serve_http(
    app: FastAPI,
    sock: socket.socket,
    state: ServerState,
    stop: Stop,
    on_startup: Callable[[], None] = lambda: None,
    hand_over: HandOver = HandOver.NOBODY,
    manager: ServiceManager | None = None,
    desk: FrontDesk | None = None,
) -> None:
    """Serve until told to stop, then drain; `on_startup` is called once connections are served.

    `app` as `build_app` makes it. `hand_over`: what becomes of `sock` then. `manager` hears of it all. `desk` has
    answered on `sock` so far.
    Raises `AddressTakenError`, and `EngineDeadError` when the engine died meanwhile.
    """
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        raise taken(f"the address {sock.getsockname()}") from error
    config, asked = state.config, state.config.connections
    rules = rules_of(config)
    watch = ClientWatch(asked.slow_client_timeout, asked.header_timeout, ConnectionMetrics(app.state.registry))
    manager = manager or ServiceManager()
    server = _Server(uvicorn_config(app, config, rules), state, on_startup, watch, manager, desk)
    shutdown = Shutdown(server, state, rules, sock, hand_over, manager)
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
    """Leaves the signals alone, looks after its clients, and ends by itself when the engine is dead."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        on_startup: Callable[[], None],
        watch: ClientWatch,
        manager: ServiceManager,
        desk: FrontDesk | None,
    ) -> None:
        super().__init__(config)
        self._desk = desk
        self._state = state
        self._on_startup = on_startup
        self._watch = watch
        self._manager = manager
        self.engine_has_died = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._desk is not None:
            self._desk.stop_accepting()
        await super().startup(sockets)
        if self._desk is not None:
            self._desk.hand_over(self._make_connection)
        self._on_startup()
        self._manager.ready()

    def _make_connection(self) -> asyncio.Protocol:
        """As uvicorn does for those that it accepts."""
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if self._state.client.is_dead and not self._state.is_draining:
            self.engine_has_died = True
            return True
        now_s = time.monotonic()
        self._manager.alive(now_s)
        if counter % _TICKS_PER_LOOK == 0:
            # All connections are of our class, which uvicorn's types do not know.
            self._watch.look(cast("set[LimitedHttpProtocol]", self.server_state.connections), now_s)
        return await super().on_tick(counter)


def rules_of(config: ServerConfig) -> ConnectionRules:
    return ConnectionRules(
        config.h11_max_incomplete_event_size, config.h11_max_header_count, config.connections.send_buffer_bytes
    )


def uvicorn_config(app: ASGIApp, config: ServerConfig, rules: ConnectionRules | None = None) -> uvicorn.Config:
    """How requests are read and answered, whatever the socket. `rules`: to be changed while it is served."""
    if config.disable_access_log_for_endpoints:
        paths = frozenset(path.strip() for path in config.disable_access_log_for_endpoints.split(","))
        logging.getLogger("uvicorn.access").addFilter(QuietPaths(paths))
    return uvicorn.Config(
        app,
        http=limited_protocol(rules or rules_of(config)),
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
    """uvicorn's own lines, with the prefix that all lines of this process have, and the id of the request."""
    prefix = f"(APIServer pid={os.getpid()}) "
    config: dict[str, Any] = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    for formatter in config["formatters"].values():
        formatter |= {"fmt": prefix + formatter["fmt"], "use_colors": False}
    access = config["formatters"]["access"]
    access |= {"()": AccessFormatter, "fmt": access["fmt"].replace("%(client_addr)s", "%(request)s%(client_addr)s")}
    return config


class AccessFormatter(uvicorn.logging.AccessFormatter):
    """uvicorn's, with the id of the request."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.request = request_mark()
        return super().formatMessage(record)


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
