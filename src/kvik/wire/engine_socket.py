"""The engine process' end of the wall: plain and blocking. Does not import asyncio, which costs a start its time."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import zmq

from kvik.messages import FromEngine, ToEngine
from kvik.wire.codec import decode_to_engine, encode


class EngineSocket:
    """Used by one thread. What the other end is, `kvik/wire/sockets.py` tells."""

    def __init__(self, address: str, wakeup: socket.socket | None = None) -> None:
        """`wakeup`: readable when a signal has come, so that `receive` lets its handler run. Drained here."""
        self._context = zmq.Context()
        self._socket = make_dealer(self._context)
        self._socket.connect(address)
        self._wakeup = wakeup
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        if wakeup is not None:
            self._poller.register(wakeup.fileno(), zmq.POLLIN)

    def send(self, message: FromEngine) -> None:
        """Queue a message; never blocks. Raises `WireError` when it cannot be encoded."""
        self._socket.send(encode(message))

    def receive(self, timeout_s: float | None = None) -> ToEngine | None:
        """Wait for the next message, asleep. None when the time is over, or a signal came. Raises `WireError`."""
        ready = dict(self._poller.poll(None if timeout_s is None else int(timeout_s * 1000)))
        if self._wakeup is not None and self._wakeup.fileno() in ready:
            self._wakeup.recv(4096)
        if self._socket not in ready:
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


def make_dealer(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """Unlimited queues; what is unsent at the end is dropped unless `close` says otherwise."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, 0)
    return socket
