"""One end of the socket between the engine process and a worker: messages in frames, a length before each.

A pair of connected Unix sockets, which a worker inherits: nobody else can speak on it, and when one process is gone,
however it ended, the other one reads the end at once.
"""

from __future__ import annotations

import socket
import struct
from typing import Generic, TypeVar

import msgspec

from kvik.errors import WireError

Message = TypeVar("Message")

_LENGTH = struct.Struct("=Q")


class Link(Generic[Message]):
    """Plain and blocking. One thread may send while another one receives."""

    def __init__(self, end: socket.socket, decoder: msgspec.msgpack.Decoder[Message]) -> None:
        self._socket = end
        self._decoder = decoder

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: object) -> None:
        self.send_frame(frame_of(message))

    def send_frame(self, frame: bytes) -> None:
        """What `frame_of` made. Raises OSError where the other end is gone."""
        self._socket.sendall(frame)

    def receive(self) -> Message | None:
        """The next message, waited for; None: the other end is gone. Raises `WireError`."""
        head = self._read(_LENGTH.size)
        body = head and self._read(_LENGTH.unpack(head)[0])
        if not body:
            return None
        try:
            return self._decoder.decode(body)
        except msgspec.DecodeError as error:
            raise WireError(f"a message between engine and worker cannot be read: {error}") from error

    def close(self) -> None:
        self._socket.close()

    def _read(self, num_bytes: int) -> bytearray | None:
        """None where the stream ends before."""
        data = bytearray(num_bytes)
        view, at = memoryview(data), 0
        while at < num_bytes:
            try:
                num_read = self._socket.recv_into(view[at:])
            except ConnectionError:
                return None
            if num_read == 0:
                return None
            at += num_read
        return data


def frame_of(message: object) -> bytes:
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body
