"""The listening socket, bound before anything slow: a taken port is found out at once. Knows no HTTP."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator

from kvik.config.frontend import ServerConfig
from kvik.errors import ConfigError, KvikError

UNSENT_IN_KERNEL_BYTES = 65536
_TCP_NOTSENT_LOWAT = 25  # Linux; the socket module has no name for it


class AddressTakenError(KvikError):
    """Somebody else listens where this server should."""


def bind(config: ServerConfig) -> socket.socket:
    """The socket of --uds, or of --host and --port. Raises `AddressTakenError`, `ConfigError`."""
    if config.uds:
        return _bind_unix(config.uds, "--uds")
    sock = _bind_tcp(config.host, config.port, config.connections.reuse_port)
    bound_unsent_bytes(sock)
    return sock


def bound_unsent_bytes(sock: socket.socket) -> None:
    """What clients do not take waits in this process, where it has a limit, and not in the kernel."""
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_IN_KERNEL_BYTES)


def bind_admin(config: ServerConfig) -> socket.socket | None:
    """The socket of --admin-uds, with mode 0600 from its first moment. Raises `AddressTakenError`, `ConfigError`."""
    path = config.access.admin_uds
    if path is None:
        return None
    before = os.umask(0o177)
    try:
        return _bind_unix(path, "--admin-uds")
    finally:
        os.umask(before)


@contextlib.contextmanager
def closing(sock: socket.socket | None) -> Iterator[socket.socket | None]:
    """Close the socket at the end, and remove its file if it has one. Does nothing without a socket."""
    if sock is None:
        yield None
        return
    path = sock.getsockname() if sock.family == socket.AF_UNIX else None
    try:
        yield sock
    finally:
        sock.close()
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def url_of(config: ServerConfig, sock: socket.socket) -> str:
    """Where clients find the server."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    scheme = "https" if config.ssl_certfile else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def taken(where: str, by: str = "") -> AddressTakenError:
    return AddressTakenError(f"{where} is taken{by}: end the process that listens there, or choose another one")


def _bind_tcp(host: str | None, port: int, reuse_port: bool) -> socket.socket:
    address = host or "0.0.0.0"
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((address, port))
    except (OSError, OverflowError) as error:
        sock.close()
        raise _bind_error(error, address, port, reuse_port) from None
    return sock


def _bind_error(error: OSError | OverflowError, address: str, port: int, reuse_port: bool) -> KvikError:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        lone = " by a server without --reuse-port" if reuse_port else ""
        return taken(f"port {port} on {address} (--port {port})", lone)
    if number == errno.EACCES:
        return ConfigError(f"--port {port} needs privileges that this process lacks; choose one from 1024 on")
    if isinstance(error, OverflowError):
        return ConfigError(f"--port must be from 0 to 65535, got {port}")
    return ConfigError(f"--host {address} is no address of this machine: {error.strerror or error}")


def _bind_unix(path: str, flag: str) -> socket.socket:
    _remove_stale(path, flag)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise taken(f"{flag} {path}") from None
        raise ConfigError(f"{flag} {path} cannot be made: {error.strerror or error}") from None
    return sock


def _remove_stale(path: str, flag: str) -> None:
    """Remove a socket that a dead server left behind; anything else stays and makes the bind fail."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ConfigError(f"{flag} {path} exists and is no socket; choose another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
