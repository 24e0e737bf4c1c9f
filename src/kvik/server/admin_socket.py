"""The socket of --admin-uds: the same application behind a second listener that only this user can reach.

Its file's mode is the key: whoever may connect is this user, or root. It lives as long as the server serves, the drain
included. Knows no route; `middleware/auth.py` says what is served here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import uvicorn
from starlette.types import ASGIApp

from kvik.config.frontend import ServerConfig
from kvik.server.access.door import AdminDoor
from kvik.server.serve import uvicorn_config
from kvik.server.starting.front_desk import BACKLOG
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

_END_GRACE_S = 2.0


@contextlib.asynccontextmanager
async def serve_admin(app: ASGIApp, sock: socket.socket | None, config: ServerConfig) -> AsyncIterator[None]:
    """Serve on `sock` as long as the context lasts; None: no such socket was asked for."""
    if sock is None:
        yield
        return
    sock.listen(BACKLOG)
    server = _AdminServer(_config(AdminDoor(app), config))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    logger.info("Admin routes are served on unix:%s, and only there", config.access.admin_uds)
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(serving, _END_GRACE_S)


class _AdminServer(uvicorn.Server):
    """Leaves the signals to the main one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: ASGIApp, config: ServerConfig) -> uvicorn.Config:
    """No TLS: it never leaves the machine. The application's life is the main server's matter."""
    plain = replace(config, ssl_keyfile=None, ssl_certfile=None, ssl_ca_certs=None, disable_access_log_for_endpoints="")
    made = uvicorn_config(app, plain)
    made.lifespan = "off"
    return made
