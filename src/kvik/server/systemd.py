"""What a service manager such as systemd gives a process and hears from it: sockets, readiness, signs of life.

The protocols are two environment variables and file descriptors from 3 on, and datagrams of NAME=VALUE lines. Knows no
HTTP.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping

from kvik.errors import ConfigError
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

FIRST_FD = 3


def inherited_socket(environ: Mapping[str, str], pid: int) -> socket.socket | None:
    """The listening socket that was handed to process `pid`; None where none was. Raises `ConfigError`."""
    announced, owner = environ.get("LISTEN_FDS"), environ.get("LISTEN_PID")
    if announced is None or owner is None:
        return None
    if owner != str(pid):
        logger.warning("LISTEN_FDS is for process %s, and this one is %d: it opens a socket of its own", owner, pid)
        return None
    if announced != "1":
        raise ConfigError(f"LISTEN_FDS must be 1, as there is one server; got {announced!r}: name one ListenStream=")
    return socket_of(FIRST_FD)


def socket_of(fd: int) -> socket.socket:
    """The stream socket that `fd` is. Raises `ConfigError` where it is none that a server could listen on."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        raise ConfigError(f"file descriptor {fd}, which LISTEN_FDS announces, is not open") from None
    if not is_socket:
        raise ConfigError(f"file descriptor {fd}, which LISTEN_FDS announces, is no socket")
    sock = socket.socket(fileno=fd)
    is_stream = sock.type == socket.SOCK_STREAM and sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if not is_stream or _is_connected(sock):
        sock.detach()
        raise ConfigError(
            f"file descriptor {fd}, which LISTEN_FDS announces, is no TCP or Unix socket to listen on: "
            "the unit needs ListenStream= and Accept=no"
        )
    sock.set_inheritable(False)
    return sock


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


class ServiceManager:
    """Hears how the server is; whatever goes wrong with that is logged, once. No-one listens without an address."""

    def __init__(self, address: str | None = None, watchdog_s: float = 0.0) -> None:
        """`watchdog_s`: the manager ends processes that are silent for so long; 0: it does not."""
        self._address = "\0" + address[1:] if address is not None and address.startswith("@") else address
        self._interval_s = watchdog_s / 3
        self._next_sign_s = 0.0
        self._is_ready = False

    @classmethod
    def of(cls, environ: Mapping[str, str], pid: int) -> ServiceManager:
        """Whoever has started process `pid`, as NOTIFY_SOCKET and WATCHDOG_USEC say. Raises `ConfigError`."""
        text = environ.get("WATCHDOG_USEC", "0")
        if not text.isdecimal():
            raise ConfigError(f"WATCHDOG_USEC must be microseconds, got {text!r}")
        is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        return cls(environ.get("NOTIFY_SOCKET") or None, int(text) / 1e6 if is_ours else 0.0)

    @property
    def listens(self) -> bool:
        return self._address is not None

    def starting(self, status: str) -> None:
        self._tell(f"STATUS={status}")

    def ready(self) -> None:
        self._is_ready = True
        self._tell("READY=1\nSTATUS=serving")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=finishing what runs")

    def alive(self, now_s: float) -> None:
        """To be called often; says so as often as the watchdog wants, from `ready` on."""
        if self._is_ready and self._interval_s > 0 and now_s >= self._next_sign_s:
            self._next_sign_s = now_s + self._interval_s
            self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(state.encode(), self._address)
        except OSError as error:
            logger.warning("the service manager at NOTIFY_SOCKET cannot be told %r: %s", state, error)
