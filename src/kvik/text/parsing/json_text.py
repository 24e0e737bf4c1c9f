"""JSON (RFC 8259) read while it arrives. Knows no call.

Text is handed on as soon as it is certain to be a part of a valid value: the pieces of a value that was cut short are
the beginning of JSON text. Control characters within strings, which models write and JSON forbids, are escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from kvik.text.parsing.reader import NotTheFormat, Reader, Reading, TextEnded

MAX_DEPTH = 64
Emit = Callable[[str], object]

_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_WORD = re.compile(r"[-+.0-9A-Za-z]+")
_SCALAR = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|true|false|null")
_NO_WORDS: Mapping[str, str] = MappingProxyType({})
_HEX = frozenset("0123456789abcdefABCDEF")


def read_value(reader: Reader, emit: Emit) -> Reading[None]:
    """One value, emitted piece by piece. Raises `NotTheFormat`, `TextEnded`."""
    closers: list[str] = []
    while True:
        char = yield from reader.skip_space(emit)
        if char == '"':
            yield from read_string(reader, emit)
        elif char in ("{", "["):
            emit(reader.take_to(reader.pos + 1))
            closers.append("}" if char == "{" else "]")
            if len(closers) > MAX_DEPTH:
                raise NotTheFormat
            if (yield from reader.skip_space(emit)) != closers[-1]:
                yield from _read_key(reader, emit, closers)
                continue
        else:
            yield from read_scalar(reader, emit)
        if (yield from _close(reader, emit, closers)):
            return
        yield from _read_key(reader, emit, closers)


def read_string(reader: Reader, emit: Emit) -> Reading[None]:
    """A string with its quotes, as JSON text."""
    if (yield from reader.skip_space()) != '"':
        raise NotTheFormat
    emit(reader.take_to(reader.pos + 1))
    while True:
        yield from reader.run(_PLAIN, emit)
        char = yield from reader.take()
        if char == '"':
            emit(char)
            return
        emit((yield from _read_escape(reader)) if char == "\\" else json.dumps(char)[1:-1])


def read_text(reader: Reader) -> Reading[str]:
    """A string's value."""
    pieces: list[str] = []
    yield from read_string(reader, pieces.append)
    return str(json.loads("".join(pieces)))


def read_object(reader: Reader) -> Reading[str]:
    """The text of a whole object, which may itself be within a string; null is an empty one."""
    pieces: list[str] = []
    yield from read_value(reader, pieces.append)
    text = "".join(pieces).strip()
    if text.startswith('"'):
        text = str(json.loads(text)).strip()
    if text == "null":
        return "{}"
    if not is_json(text, dict):
        raise NotTheFormat
    return text


def is_json(text: str, kind: type = object) -> bool:
    """Whether it is, strictly, the text of a `kind`: no NaN, no half surrogate pairs."""
    try:
        text.encode()
        return isinstance(json.loads(text, parse_constant=_refuse), kind)
    except (ValueError, RecursionError):
        return False


def _refuse(word: str) -> None:
    raise ValueError(word)


def expect(reader: Reader, wanted: str, emit: Emit | None = None) -> Reading[str]:
    """Read white space and one of the characters of `wanted`, which is returned."""
    char = yield from reader.skip_space(emit)
    if not char:
        raise TextEnded
    if char not in wanted:
        raise NotTheFormat
    reader.take_to(reader.pos + 1)
    if emit is not None:
        emit(char)
    return char


def _read_key(reader: Reader, emit: Emit, closers: list[str]) -> Reading[None]:
    """In an object: a key and its colon."""
    if closers[-1] == "}":
        yield from reader.skip_space(emit)
        yield from read_string(reader, emit)
        yield from expect(reader, ":", emit)


def _close(reader: Reader, emit: Emit, closers: list[str]) -> Reading[bool]:
    """After a value: the ends of containers, then a comma. True where the outermost value has ended."""
    while closers:
        if (yield from expect(reader, "," + closers[-1], emit)) == ",":
            return False
        closers.pop()
    return True


def read_scalar(reader: Reader, emit: Emit, words: Mapping[str, str] = _NO_WORDS) -> Reading[None]:
    """A number or a word; one cannot tell that it is valid before it has ended. `words`: others, and what they mean."""
    pieces: list[str] = []
    yield from reader.run(_WORD, pieces.append)
    if reader.has_ended and reader.pos == len(reader.text):
        raise TextEnded
    word = "".join(pieces)
    word = words.get(word, word)
    if _SCALAR.fullmatch(word) is None:
        raise NotTheFormat
    emit(word)


def _read_escape(reader: Reader) -> Reading[str]:
    """After a backslash."""
    char = yield from reader.take()
    if char in '"\\/bfnrt':
        return "\\" + char
    if char != "u":
        raise NotTheFormat
    digits = ""
    for _ in range(4):
        digits += yield from reader.take()
    if not _HEX.issuperset(digits):
        raise NotTheFormat
    return "\\u" + digits
