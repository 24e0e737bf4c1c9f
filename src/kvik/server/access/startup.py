"""What is said about access when a server starts: wrong files at once, an open door loudly. Imports nothing slow."""

from __future__ import annotations

import ipaddress
import socket

from kvik.config.frontend import ServerConfig
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

_OPEN_DOOR = (
    "************************************************************************",
    "ANYBODY who reaches {where} may use this server: it asks for no key.",
    "Do one of these:",
    "  --host 127.0.0.1        listen on this machine only",
    "  --api-key KEY           ask for a key, for example that of: openssl rand -hex 32",
    "  --api-key-file FILE     ask for one of several, each with its own scopes",
    "or keep the port behind a firewall or a proxy that asks for one.",
    "************************************************************************",
)
_CLIENT_CERTIFICATE_REQUIRED = 2


def check_access(config: ServerConfig) -> None:
    """Raises `ConfigError` for a key file that cannot be used: it is wrong at once, or a mistake of later."""
    if config.access.api_key_file is not None:
        from kvik.server.access.key_file import check_key_file

        check_key_file(config.access.api_key_file)


def warn_if_open(config: ServerConfig, sock: socket.socket) -> None:
    """A few lines where others than this machine's users get in without a key or a certificate."""
    if config.has_keys or config.ssl_cert_reqs == _CLIENT_CERTIFICATE_REQUIRED or _is_local(sock):
        return
    host, port = sock.getsockname()[:2]
    where = f"port {port} on {'any address of this machine' if _is_any(host) else host}"
    for line in _OPEN_DOOR:
        logger.warning("%s", line.format(where=where))


def _is_local(sock: socket.socket) -> bool:
    return sock.family == socket.AF_UNIX or ipaddress.ip_address(sock.getsockname()[0]).is_loopback


def _is_any(host: str) -> bool:
    return ipaddress.ip_address(host).is_unspecified
