"""--api-key-file: the keys that it holds now. Looked at when somebody asks, at most once a second; no thread, no watch.

A file that is gone, unreadable or wrong changes nothing: the keys of before stay, and the log says so once.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable

from kvik.errors import ConfigError
from kvik.server.access.key_list import parse_keys
from kvik.server.access.keys import Key
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

LOOK_INTERVAL_S = 1.0
MAX_FILE_BYTES = 1 << 20
_OTHERS_MAY = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP

Stamp = tuple[int, int, int, int]
"""Device, inode, size and mtime in ns: what changes when a file is written or replaced."""


class KeyFile:
    """The keys of one file. Made at the start, where a wrong file is a `ConfigError`."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked_at_s = clock()
        self._stamp: Stamp | None = None
        self._keys: tuple[Key, ...] = ()
        try:
            self._read()
        except (OSError, ConfigError) as error:
            raise ConfigError(f"--api-key-file {path}: {_reason(error)}") from None
        if not self._keys:
            logger.warning("--api-key-file %s holds no key: only those of --api-key are let in", path)

    def current(self) -> tuple[Key, ...]:
        """Those of the file as it is, or was a second ago."""
        now_s = self._clock()
        if now_s - self._looked_at_s >= LOOK_INTERVAL_S:
            self._looked_at_s = now_s
            self._look()
        return self._keys

    def _look(self) -> None:
        before = self._stamp
        try:
            if _stamp_of(os.stat(self._path)) == before:
                return
            self._read()
            logger.info("--api-key-file %s was read again: %d keys", self._path, len(self._keys))
        except (OSError, ConfigError) as error:
            if isinstance(error, OSError):
                self._stamp = None
            if self._stamp != before:
                logger.error(
                    "--api-key-file %s cannot be used, the keys of before stay: %s", self._path, _reason(error)
                )

    def _read(self) -> None:
        """Take over what the file holds, unless it is wrong; its stamp in any case."""
        content, about = read_file(self._path)
        self._stamp = _stamp_of(about)
        self._keys = parse_content(content)
        if about.st_mode & _OTHERS_MAY:
            logger.warning(
                "--api-key-file %s may be read or written by others (mode %03o): chmod 600 it",
                self._path, stat.S_IMODE(about.st_mode),
            )  # fmt: skip


def read_file(path: str) -> tuple[bytes, os.stat_result]:
    """The content, at most one byte more than may be, and the stat of just this file. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(MAX_FILE_BYTES + 1), os.fstat(file.fileno())


def parse_content(content: bytes) -> tuple[Key, ...]:
    """Raises `ConfigError`."""
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"it may have at most {MAX_FILE_BYTES} bytes")
    try:
        return parse_keys(content.decode())
    except UnicodeDecodeError:
        raise ConfigError("it is not UTF-8") from None


def check_key_file(path: str) -> None:
    """Raise `ConfigError` for a file that a `KeyFile` cannot be made of. Keeps and logs nothing."""
    try:
        parse_content(read_file(path)[0])
    except (OSError, ConfigError) as error:
        raise ConfigError(f"--api-key-file {path}: {_reason(error)}") from None


def _stamp_of(about: os.stat_result) -> Stamp:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
