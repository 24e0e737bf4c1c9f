"""JSON files of a checkpoint, read strictly: UTF-8, an object at the top, no repeated name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvik.errors import ModelFileError

MAX_JSON_BYTES = 100 * 2**20


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in `path`. Raises ModelFileError, naming the file, when it cannot be read as one."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelFileError(f"{path} is larger than {MAX_JSON_BYTES} bytes; that is no sound {path.name}")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error
    return parse_json_object(data, str(path))


def parse_json_object(data: bytes, source: str) -> dict[str, Any]:
    """The object in `data`; `source` names it in errors."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ModelFileError(f"{source} is not usable JSON: it is nested too deeply") from None
    except ValueError as error:
        raise ModelFileError(f"{source} is not usable JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{source} must hold a JSON object, not {type(value).__name__}")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"the name {name!r} occurs twice")
        values[name] = value
    return values
