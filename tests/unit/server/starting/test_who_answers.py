"""Where a desk answers while the server starts, and where it must not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from kvik.config.connections import ConnectionConfig
from kvik.config.frontend import ServerConfig
from kvik.server.hand_over import HandOver
from kvik.server.launcher import front_desk
from kvik.server.sockets import AddressTakenError, bind
from kvik.telemetry.start_estimate import Expectation
from kvik.telemetry.timeline import Timeline

LIVE = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


def with_desk(config: ServerConfig, sock: socket.socket, hand_over: HandOver) -> bytes:
    """What a client gets, within the time that a start would take."""

    async def main() -> bytes:
        with front_desk(sock, config, Timeline(0.0, Expectation()), hand_over):
            address = sock.getsockname()
            connecting = (
                asyncio.open_unix_connection(address)
                if sock.family == socket.AF_UNIX
                else asyncio.open_connection(*address)
            )
            reader, writer = await connecting
            writer.write(LIVE)
            with contextlib.closing(writer):
                return await asyncio.wait_for(reader.read(), 0.2 if hand_over is HandOver.SAME_SOCKET else 20)

    return asyncio.run(main())


def test_a_port_and_a_unix_socket(tmp_path: Path) -> None:
    for config in (ServerConfig(host="127.0.0.1", port=0), ServerConfig(uds=str(tmp_path / "sock"))):
        with contextlib.closing(bind(config)) as sock:
            assert with_desk(config, sock, HandOver.NOBODY).startswith(b"HTTP/1.1 200 OK")


def test_a_shared_port_belongs_to_the_server_that_is_ready() -> None:
    """All connections go to the one that listens: this one does not, yet."""
    config = ServerConfig(host="127.0.0.1", port=0, connections=ConnectionConfig(reuse_port=True))
    with contextlib.closing(bind(config)) as sock, pytest.raises(ConnectionRefusedError):
        with_desk(config, sock, HandOver.SHARED_PORT)


def test_connections_to_a_managers_socket_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, pytest.raises(TimeoutError):
        with_desk(ServerConfig(), sock, HandOver.SAME_SOCKET)


def test_somebody_else_may_have_come_first() -> None:
    """Two sockets can be bound to one port while neither listens."""
    config = ServerConfig(host="127.0.0.1", port=0)
    with contextlib.closing(bind(config)) as sock:
        port = sock.getsockname()[1]
        with contextlib.closing(bind(ServerConfig(host="127.0.0.1", port=port))) as other:
            other.listen()
            with pytest.raises(AddressTakenError, match="is taken"):
                with_desk(config, sock, HandOver.NOBODY)
