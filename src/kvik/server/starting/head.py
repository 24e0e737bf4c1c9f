"""The head of an HTTP/1 request, as far as it matters to who answers three paths and refuses all else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_METHOD = re.compile(rb"[A-Z][A-Z0-9_-]{0,31}")
_VERSION = re.compile(rb"HTTP/1\.[01]")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class BadHeadError(ValueError):
    """No head of a request."""


@dataclass(frozen=True, slots=True)
class Head:
    method: str
    path: str
    """Decoded, without the query."""
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case."""

    def value_of(self, name: bytes) -> bytes:
        """Of the first header of this name; empty without one."""
        return next((value for known, value in self.headers if known == name), b"")


def parse_head(data: bytes) -> Head | None:
    """The head that `data` begins with; None while its end has not come. Raises `BadHeadError`."""
    lines_in, end, _ = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not end:
        _check_begin(lines_in)
        return None
    first, *rest = lines_in.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not _METHOD.fullmatch(words[0]) or not _VERSION.fullmatch(words[2]):
        raise BadHeadError("the first line is not: METHOD PATH HTTP/1.1")
    return Head(words[0].decode(), _path_of(words[1]), tuple(_header_of(line) for line in rest))


def _check_begin(data: bytes) -> None:
    """What cannot become a request is known at once: a TLS handshake, another protocol."""
    if data and not _METHOD.fullmatch(data.partition(b" ")[0]):
        raise BadHeadError("this port speaks HTTP, and the first word is no method of it")


def _path_of(target: bytes) -> str:
    text = target.decode("latin-1").partition("?")[0]
    if text.lower().startswith(("http://", "https://")):
        text = "/" + text.partition("://")[2].partition("/")[2]
    return unquote(text)


def _header_of(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name):
        raise BadHeadError("a line of the head is not: NAME: VALUE")
    return name.lower(), value.strip(b" \t")
