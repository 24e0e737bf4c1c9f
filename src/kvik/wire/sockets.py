"""The two ends of the wall: a DEALER bound by the API process, a DEALER connected by the engine process.

One pair of sockets per engine process, each a full duplex pipe that keeps order: with a single peer on either side
there is nothing to route and nobody to name. The address is a socket file in a fresh directory that only this user
can enter, so no other user can speak or listen. Queues are unlimited, because what could be dropped here is somebody's
answer; admission is limited where requests come in.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import zmq
import zmq.asyncio

from kvik.errors import ConfigError, EngineDeadError
from kvik.messages import FromEngine, ToEngine
from kvik.wire.codec import decode_from_engine, decode_to_engine, encode

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
        self._socket = _make_socket(self._context)
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


class EngineSocket:
    """The engine process' end: plain, blocking, used by one thread."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = _make_socket(self._context)
        self._socket.connect(address)

    def send(self, message: FromEngine) -> None:
        """Queue a message; never blocks. Raises `WireError` when it cannot be encoded."""
        self._socket.send(encode(message))

    def receive(self, timeout_s: float | None = None) -> ToEngine | None:
        """Wait for the next message, asleep. None when the time is over. Raises `WireError`."""
        if not self._socket.poll(None if timeout_s is None else int(timeout_s * 1000)):
            return None
        return decode_to_engine(self._socket.recv(zmq.DONTWAIT))

    def drain(self) -> Iterator[ToEngine]:
        """What has arrived, without waiting. Raises `WireError`; the rest can be drained after it."""
        while True:
            try:
                frame = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            yield decode_to_engine(frame)

    def close(self, linger_s: float = 0.0) -> None:
        """Give unsent messages (a last word) at most `linger_s` to leave."""
        self._socket.close(linger=int(linger_s * 1000))
        self._context.term()


def _make_socket(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, 0)
    return socket
