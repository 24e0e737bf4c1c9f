"""What earlier starts took, in a small file of the cache folder. What is wrong with it is never a start's problem."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from kvik.config import EngineConfig, env
from kvik.telemetry.log import get_logger
from kvik.telemetry.start_estimate import CHAIN

logger = get_logger(__name__)

FILE_NAME = "starts.json"
MAX_STARTS = 32
"""The latest are kept."""
_MAX_FILE_BYTES = 1 << 18
_MAX_PHASE_S = 86400.0


class _Content(msgspec.Struct):
    starts: dict[str, dict[str, float]] = {}
    """By `key_of`, the oldest first: phase -> seconds."""


class StartMemory:
    """The file in `folder`, or in the user's cache folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def recall(self, key: str) -> Mapping[str, float] | None:
        """Seconds by phase of the last start of this key; None: there is nothing that can be read."""
        return self._read().starts.get(key)

    def remember(self, key: str, seconds: Mapping[str, float]) -> None:
        """Never raises: a folder that cannot be written to is a line in the log."""
        try:
            self._write(key, seconds)
        except (OSError, RuntimeError) as error:
            logger.warning(
                "how long this start took cannot be kept for the next one's estimate: %s; KVIK_CACHE_ROOT names a "
                "folder that can be written to", error,
            )  # fmt: skip

    def _path(self) -> Path:
        return (self._folder or env.cache_root()) / FILE_NAME

    def _read(self) -> _Content:
        try:
            with self._path().open("rb") as file:
                content = msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=_Content)
        except (OSError, RuntimeError, ValueError):
            return _Content()
        content.starts = {key: seconds for key, seconds in content.starts.items() if _is_sane(seconds)}
        return content

    def _write(self, key: str, seconds: Mapping[str, float]) -> None:
        """Replace the file as a whole: a reader sees the old one or the new one; of two writers the last one wins."""
        starts = self._read().starts
        starts.pop(key, None)
        starts[key] = {name: round(value, 4) for name, value in seconds.items()}
        for old in list(starts)[:-MAX_STARTS]:
            del starts[old]
        path = self._path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=FILE_NAME, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(_Content(starts)))
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def key_of(config: EngineConfig, weights_bytes: int) -> str:
    """The same for starts that load the same weights in the same way; tells nothing of them to who reads the file."""
    model = config.model
    parts = (model.model, weights_bytes, model.dtype, model.quantization, config.load.load_format)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def checkpoint_bytes(model: str) -> int:
    """Of the files that a start reads weights from, before anything is read; 0 where they cannot be counted."""
    path = Path(model)
    try:
        files: Sequence[Path] = [path] if path.is_file() else list(path.glob("*.safetensors"))
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0


def _is_sane(seconds: Mapping[str, float]) -> bool:
    return all(name in CHAIN and math.isfinite(s) and 0 <= s <= _MAX_PHASE_S for name, s in seconds.items())
