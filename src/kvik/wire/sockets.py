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
from collections import deque
from pathlib import Path

import zmq

from kvik.errors import ConfigError, EngineDeadError
from kvik.messages import FromEngine, ToEngine
from kvik.wire.codec import decode_from_engine, encode
from kvik.wire.engine_socket import EngineSocket, make_dealer
from kvik.wire.pulse import PulseReader, pulse_path

__all__ = ["ApiSocket", "EngineSocket"]

_MAX_PATH_BYTES = 107
"""Of a Unix socket's address: 108 with the closing zero."""

_READABLE = int(zmq.POLLIN)


def _no_room(error: OSError) -> ConfigError:
    return ConfigError(
        f"no room for temporary files in {tempfile.gettempdir()}: {error.strerror}; make some, or set TMPDIR to a "
        "directory that has a megabyte"
    )


class ApiSocket:
    """The API process' end. Made anywhere; `send` and `receive` belong to one asyncio loop.

    The loop watches ZeroMQ's own descriptor, and a wake-up takes in all frames that are there. `zmq.asyncio` makes a
    future, a timer and several wake-ups of each message, which at one message a step is half of what a stream costs.
    """

    def __init__(self) -> None:
        """Binds at once. Raises `ConfigError` when there is no room for temporary files, or too long a path."""
        try:
            self._directory = Path(tempfile.mkdtemp(prefix="kvik-"))  # mode 0700
        except OSError as error:
            raise _no_room(error) from error
        path = self._directory / "engine"
        if len(bytes(path)) > _MAX_PATH_BYTES:
            shutil.rmtree(self._directory)
            raise ConfigError(
                f"the socket path {path} has {len(bytes(path))} bytes, more than the {_MAX_PATH_BYTES} that the system "
                "allows; set TMPDIR to a shorter directory"
            )
        self.address = f"ipc://{path}"
        try:
            self.pulse = PulseReader(pulse_path(self.address))
        except OSError as error:
            shutil.rmtree(self._directory)
            raise _no_room(error) from error
        self._context = zmq.Context()
        self._socket = make_dealer(self._context)
        self._socket.bind(self.address)
        self._loop: asyncio.AbstractEventLoop | None = None
        """The one that watches, from the first `receive` on."""
        self._frames: deque[bytes] = deque()
        """Arrived, not received yet."""
        self._news: asyncio.Future[None] | None = None
        """What the one `receive` waits for."""
        self._has_hung_up = False

    def send(self, message: ToEngine) -> None:
        """Queue a message; never blocks. Only once the engine has said `Hello`.

        Raises `EngineDeadError` when no engine is connected, `WireError` when the message cannot be encoded.
        """
        try:
            self._socket.send(encode(message), zmq.DONTWAIT)
        except zmq.Again:
            raise EngineDeadError("the engine process is not connected; it has ended or was never started") from None
        if self._loop is not None:  # a send takes in signals too, and with them the wake-up for frames that came
            self._loop.call_soon(self._take_in)

    async def receive(self) -> FromEngine | None:
        """The next message, whenever it comes. Raises `WireError`. May be cancelled without losing a message.

        None once `hang_up` was called and all that came before is received.
        """
        if self._loop is None:
            self._watch(asyncio.get_running_loop())
        if self._frames:
            await asyncio.sleep(0)  # whoever the last message woke comes first: a backlog must not become one burst
        while not self._frames:
            if self._has_hung_up:
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return decode_from_engine(self._frames.popleft())

    def hang_up(self) -> None:
        """Nothing comes any more: `receive` need not wait for it."""
        self._has_hung_up = True
        self._wake_receiver()

    def close(self) -> None:
        """Drop what is unsent, and remove the directory. May be called twice."""
        if self._loop is not None and not self._loop.is_closed() and not self._socket.closed:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close(linger=0)
        self._context.term()
        self.pulse.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.add_reader(self._socket.fileno(), self._take_in)
        self._take_in()  # the descriptor tells of changes, not of what was there before

    def _take_in(self) -> None:
        """All frames that are there; not one may stay, for nothing would tell of it again."""
        if self._socket.closed:
            return
        # Asked rather than tried: an exception a wake-up would cost more than all the rest of it.
        while int(self._socket.getsockopt(zmq.EVENTS)) & _READABLE:
            self._frames.append(self._socket.recv(zmq.DONTWAIT))
        if self._frames:
            self._wake_receiver()

    def _wake_receiver(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
