"""The wall's sockets: a DEALER bound by the API process (here), a DEALER connected by the engine process.

One pair of sockets per engine process, each a full duplex pipe that keeps order: with a single peer on either side
there is nothing to route and nobody to name. The address is a socket file in a fresh directory that only this user
can enter, so no other user can speak or listen. Queues are unlimited, because what could be dropped here is somebody's
answer; admission is limited where requests come in.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

import zmq
import zmq.asyncio

from kvik.errors import ConfigError, EngineDeadError
from kvik.messages import FromEngine, ToEngine
from kvik.wire.codec import decode_from_engine, encode
from kvik.wire.engine_socket import EngineSocket, make_dealer

__all__ = ["ApiSocket", "EngineSocket"]

_MAX_PATH_BYTES = 107
"""Of a Unix socket's address: 108 with the closing zero."""


class ApiSocket:
    """The API process' end. Made anywhere; `send` and `receive` belong to one asyncio loop."""

    def __init__(self) -> None:
        """Binds at once. Raises `ConfigError` when the directory for temporary files has too long a path."""
        self._directory = Path(tempfile.mkdtemp(prefix="kvik-"))  # mode 0700
        path = self._directory / "engine"
        if len(bytes(path)) > _MAX_PATH_BYTES:
            shutil.rmtree(self._directory)
            raise ConfigError(
                f"the socket path {path} has {len(bytes(path))} bytes, more than the {_MAX_PATH_BYTES} that the system "
                "allows; set TMPDIR to a shorter directory"
            )
        self.address = f"ipc://{path}"
        self._context = zmq.Context()
        self._socket = make_dealer(self._context)
        self._socket.bind(self.address)
        self._async_socket: zmq.asyncio.Socket | None = None

    def send(self, message: ToEngine) -> None:
        """Queue a message; never blocks. Only once the engine has said `Hello`.

        Raises `EngineDeadError` when no engine is connected, `WireError` when the message cannot be encoded.
        """
        # Through the asyncio socket: a plain send could swallow the wake-up of a pending receive.
        sent = cast("asyncio.Future[Any]", self._in_loop().send(encode(message), flags=zmq.DONTWAIT))
        if isinstance(sent.exception(), zmq.Again):
            raise EngineDeadError("the engine process is not connected; it has ended or was never started")
        sent.result()

    async def receive(self) -> FromEngine:
        """The next message, whenever it comes. Raises `WireError`. May be cancelled without losing a message."""
        return decode_from_engine(await self._in_loop().recv())

    def close(self) -> None:
        """Drop what is unsent, and remove the directory. May be called twice."""
        if self._async_socket is not None:
            self._async_socket.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _in_loop(self) -> zmq.asyncio.Socket:
        """Made on first use: a socket of the asyncio kind belongs to the loop that runs then."""
        if self._async_socket is None:
            asyncio.get_running_loop()
            self._async_socket = zmq.asyncio.Socket.shadow(self._socket)
        return self._async_socket
