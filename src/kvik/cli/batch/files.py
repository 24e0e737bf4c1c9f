"""Batch files: which lines of the input can be asked, which were answered before, and what is written. Asks nothing."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from kvik.errors import ConfigError

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request of the input."""

    custom_id: str
    url: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be asked."""

    line: int
    """From 1."""
    custom_id: str | None
    message: str


def read_input(path: Path) -> tuple[list[BatchLine], list[BadLine]]:
    """All lines but empty ones. Raises `ConfigError` where the file cannot be read or a custom_id comes twice."""
    good: list[BatchLine] = []
    bad: list[BadLine] = []
    lines: dict[str, int] = {}
    for number, text in _lines(path):
        read = _read_line(number, text)
        if isinstance(read, BadLine):
            bad.append(read)
            continue
        if read.custom_id in lines:
            raise ConfigError(
                f"{path}: custom_id {read.custom_id!r} is in lines {lines[read.custom_id]} and {number}; "
                "answers could not be told apart: give each line its own"
            )
        lines[read.custom_id] = number
        good.append(read)
    return good, bad


def read_done(path: Path) -> set[str]:
    """custom_ids that an output file of an earlier run answers. A last line that was cut off is removed from it."""
    if not path.exists():
        return set()
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    done: set[str] = set()
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            done.add(str(json.loads(line)["custom_id"]))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{path}, line {number}, is no line of a batch output; name another --output-file"
            ) from None
    return done


class ResultWriter:
    """Appends answers as they come; each is on disk before the next one is written."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, custom_id: str | None, response: dict[str, Any] | None, error: dict[str, Any] | None) -> None:
        line = {"id": f"batch_req_{secrets.token_hex(8)}", "custom_id": custom_id, "response": response, "error": error}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--input-file {path} cannot be read: {error}") from None


def _read_line(number: int, text: str) -> BatchLine | BadLine:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadLine(number, None, f"no JSON: {error}")
    if not isinstance(line, dict):
        return BadLine(number, None, "must be an object with custom_id, method, url and body")
    custom_id = line.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        return BadLine(number, None, "custom_id must be a text that is not empty")
    if line.get("method", "POST") != "POST":
        return BadLine(number, custom_id, f"method must be POST, got {str(line['method'])[:100]!r}")
    if line.get("url") not in URLS:
        return BadLine(number, custom_id, f"url must be one of {', '.join(URLS)}, got {str(line.get('url'))[:100]!r}")
    body = line.get("body")
    if not isinstance(body, dict) or body.get("stream"):
        return BadLine(number, custom_id, "body must be an object without stream=true")
    return BatchLine(custom_id, line["url"], body)
