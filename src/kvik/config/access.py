"""Who may ask what, as asked on the command line, besides --api-key. Knows no route but those that may be opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvik.config.flags import flag
from kvik.errors import ConfigError

OPENABLE = ("/metrics", "/version", "/startup", "/load", "/docs", "/redoc", "/openapi.json")
"""Paths that need a key but may do without: none of them acts, none tells of requests."""


@dataclass(frozen=True, kw_only=True)
class AccessConfig:
    """Flags about keys, sockets and folders. Raises `ConfigError` for values that mean nothing."""

    api_key_file: str | None = flag(
        None, "YAML or JSON file of keys (name, sha256, scopes infer, metrics, admin), read again when it changes",
        ours=True, common=True,
    )  # fmt: skip
    open_paths: tuple[str, ...] = flag(
        (), f"with keys: paths that need none, beside the probes; any of {' '.join(OPENABLE)}", ours=True
    )
    admin_uds: str | None = flag(
        None, "serve the admin routes on this Unix socket, for this user only and without a key, and nowhere else",
        ours=True,
    )  # fmt: skip
    allowed_lora_path: tuple[str, ...] = flag(
        (), "folders that clients may load adapters from (/v1/load_lora_adapter); unset: any folder", ours=True
    )

    def __post_init__(self) -> None:
        for path in self.open_paths:
            if path not in OPENABLE:
                raise ConfigError(f"--open-paths takes any of {' '.join(OPENABLE)}, got {path}")
        for path in self.allowed_lora_path:
            if not Path(path).is_dir():
                raise ConfigError(f"--allowed-lora-path takes folders that exist, got {path}")
