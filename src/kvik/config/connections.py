"""How the server deals with connections: taking over a port, and clients that read or write too slowly."""

from __future__ import annotations

from dataclasses import dataclass

from kvik.config.flags import flag
from kvik.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConnectionConfig:
    """Flags about connections, whatever is said on them. Raises `ConfigError` for values that mean nothing."""

    reuse_port: bool = flag(
        False, "share the port with another server that has this flag too, so that one can take over from the other",
        ours=True,
    )  # fmt: skip
    slow_client_timeout: float = flag(
        120.0, "seconds after which a client that takes nothing of its answer is disconnected; 0: never", ours=True
    )
    header_timeout: float = flag(
        30.0, "seconds that a client has for the head of a request; 0: as many as it likes", ours=True
    )
    send_buffer_bytes: int = flag(
        65536, "bytes of an answer that wait for a slow client; with more than that, its stream waits", kind="size",
        ours=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("slow_client_timeout", "header_timeout"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ConfigError(f"--{name.replace('_', '-')} takes seconds, 0 or more, got {value}")
        if self.send_buffer_bytes < 1:
            raise ConfigError(f"--send-buffer-bytes takes 1 or more, got {self.send_buffer_bytes}")
