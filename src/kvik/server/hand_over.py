"""Leaving a listening socket to another server without a client that is refused. Knows no HTTP.

A connection that a client believes to be open may still wait in the kernel for this server to accept it: closing the
socket would reset it. A socket that another process holds too keeps what waits. One that merely shares its port does
not; so it first turns away new handshakes, in silence: those clients try again after a second, as after a lost packet,
and by then only the other server listens. What has begun before is accepted; then the socket is closed.
"""

from __future__ import annotations

import asyncio
import ctypes
import enum
import select
import socket
import struct
from collections.abc import Sequence

from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

HANDSHAKE_S = 0.4
"""For handshakes that have begun: below the second after which a client tries again, above most round trips."""

_SO_ATTACH_FILTER = 26  # Linux; the socket module has no name for it


class HandOver(enum.Enum):
    """Who serves new connections once this server goes down."""

    NOBODY = enum.auto()
    SHARED_PORT = enum.auto()
    """Another server that listens on the same port (--reuse-port)."""
    SAME_SOCKET = enum.auto()
    """Another process has this very socket, or will be given it by the service manager."""


async def stop_listening(servers: Sequence[asyncio.AbstractServer], sock: socket.socket, hand_over: HandOver) -> None:
    """Close the listening `sock` of `servers`; connections that it has had go on."""
    if hand_over is HandOver.SHARED_PORT:
        if not turn_handshakes_away(sock):
            logger.warning("new connections cannot be turned away softly: a few may be reset")
        await asyncio.sleep(HANDSHAKE_S)
        while _has_waiting(sock):
            await asyncio.sleep(0.01)
    for server in servers:
        server.close()


def turn_handshakes_away(sock: socket.socket) -> bool:
    """From now on packets that would begin a connection are dropped; False where the system cannot do that.

    A filter that the kernel asks about every packet for the socket; the sockets of its connections have it too and
    never get such packets.
    """
    program = b"".join(
        [
            _instruction(0x30, 13),  # load the byte of flags of the TCP header
            _instruction(0x54, 0x12),  # of which SYN and ACK
            _instruction(0x15, 0x02, if_true=0, if_false=1),  # SYN alone?
            _instruction(0x06, 0),  # drop it
            _instruction(0x06, 0xFFFFFFFF),  # let it pass
        ]
    )
    memory = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("@HP", len(program) // 8, ctypes.addressof(memory))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
    except OSError:
        return False
    return True


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction of the classic packet filter."""
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _has_waiting(sock: socket.socket) -> bool:
    """Whether there are connections that nobody has accepted."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
