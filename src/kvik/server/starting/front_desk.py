"""Accepts connections on the server's socket before the application is there, and then leaves them to it.

No connection is refused on the way: those that wait in the kernel stay there, and those that were accepted and have not
sent a whole head yet go on with the application's protocol, with what they have sent. Knows no route.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable

from kvik.config.frontend import ServerConfig
from kvik.server.starting.connection import ConnectionLimits, StartingConnection
from kvik.server.starting.head import Head
from kvik.server.tls import ssl_context_of
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

BACKLOG = 2048
MAX_CONNECTIONS = 256
"""At a time; the one that has been silent for longest makes room for the next."""
MAX_HEAD_BYTES = 65536
_ACCEPTS_PER_TURN = 64
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S = 0.2


class FrontDesk:
    """`open` once, in the event loop; then `close`, or `stop_accepting` and `hand_over`."""

    def __init__(
        self,
        sock: socket.socket,
        config: ServerConfig,
        answer: Callable[[Head], bytes],
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """`sock` is bound; it stays the caller's."""
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._listening: socket.socket | None = None
        self._answer = answer
        self._tls: ssl.SSLContext | None = ssl_context_of(config)
        head_bytes = min(MAX_HEAD_BYTES, config.h11_max_incomplete_event_size)
        self._limits = ConnectionLimits(head_bytes, config.connections.header_timeout)
        self._max_connections = max_connections
        self._connections: dict[StartingConnection, None] = {}
        """In the order of their arrival."""
        self._arriving: set[asyncio.Task[None]] = set()
        self._make_heir: Callable[[], asyncio.Protocol] | None = None

    def open(self) -> None:
        """Listen, and answer from now on. Raises OSError where another socket listens there."""
        self._sock.listen(BACKLOG)
        # A descriptor of its own: two watchers of the loop on one would be in each other's way.
        self._listening = self._sock.dup()
        self._listening.setblocking(False)
        self._watch()

    def stop_accepting(self) -> None:
        """Connections wait in the kernel from now on."""
        if self._listening is not None:
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()
            self._listening = None

    def hand_over(self, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        """Whoever has sent no whole head yet goes on with a protocol of the application."""
        self.stop_accepting()
        self._make_heir = make_protocol
        for connection in list(self._connections):
            connection.become(make_protocol)
        self._connections.clear()

    def close(self) -> None:
        """End all connections, without a word."""
        self.stop_accepting()
        for task in self._arriving:
            task.cancel()
        for connection in list(self._connections):
            connection.abort()

    # --- what connections call -------------------------------------------------------------------------

    def arrived(self, connection: StartingConnection) -> None:
        if self._make_heir is not None:
            connection.become(self._make_heir)  # its handshake took until now
            return
        if len(self._connections) >= self._max_connections:
            next(iter(self._connections)).abort()
        self._connections[connection] = None

    def left(self, connection: StartingConnection) -> None:
        self._connections.pop(connection, None)

    # --- accepting -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._listening is not None:
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            if self._listening is None:
                return
            try:
                connection, _ = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._failed_to_accept(error)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._begin(connection))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    def _failed_to_accept(self, error: OSError) -> None:
        """A client that has left again is nothing; without descriptors, trying again at once would only burn time."""
        if error.errno in _OUT_OF_FILES and self._listening is not None:
            logger.warning("connections wait: %s", error)
            self._loop.remove_reader(self._listening.fileno())
            self._loop.call_later(_PAUSE_S, self._watch)

    async def _begin(self, sock: socket.socket) -> None:
        timeout_s = self._limits.header_timeout_s or None
        try:
            await self._loop.connect_accepted_socket(
                lambda: StartingConnection(self, self._answer, self._limits), sock,
                ssl=self._tls, ssl_handshake_timeout=timeout_s if self._tls else None,
            )  # fmt: skip
        except (OSError, TimeoutError):  # no handshake, or gone: not worth a line for each port scan
            sock.close()
