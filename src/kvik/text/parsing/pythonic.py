"""A list of Python calls, `[f(a=1), g(b="x")]`, at the beginning of the answer: Llama 3.2 and 4, ToolACE, Olmo 3.

Read by hand, token by token, and written as JSON; never evaluated. Arguments are literals: strings, numbers, True,
False, None (and JSON's own words), lists, tuples and dicts with strings as keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection

from kvik.text.parsing.calls import attempt, checked_name
from kvik.text.parsing.json_text import MAX_DEPTH, Emit, expect, read_scalar
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import Markers, NotTheFormat, Reader, Reading
from kvik.text.parsing.tool_format import ToolFormat, tool_format

_NAME = re.compile(r"[A-Za-z0-9_.]+")
_PLAIN = re.compile(r"""[^'"\\\r\n]+""")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", "'": "'", '"': '"', "\n": "", "0": "\0"}
_NUM_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_WORDS = {"True": "true", "False": "false", "None": "null"}


def pythonic(begin: str = "", end: str = "") -> ToolFormat:
    """Markers around the list are optional."""
    begins, ends = (Markers(begin), Markers(end)) if begin else (None, None)

    def read(reader: Reader, out: Outbox, known: Collection[str]) -> Reading[None]:
        reader.keep()
        yield from reader.skip_space()
        if begins is not None:
            yield from reader.match(begins)
        has_calls = yield from attempt(reader, out, _read_calls(reader, out, known or None))
        if has_calls and ends is not None:
            yield from reader.skip_space()
            yield from reader.match(ends)

    return tool_format(read, (begin, end) if begin else ())


def _read_calls(reader: Reader, out: Outbox, known: Collection[str] | None) -> Reading[None]:
    yield from expect(reader, "[")
    while True:
        yield from reader.skip_space()
        name = checked_name((yield from _read_name(reader)), known)
        yield from expect(reader, "(")
        yield from _read_arguments(reader, out, name)
        if (yield from _comma_or(reader, "]")):
            return


def _read_arguments(reader: Reader, out: Outbox, function: str) -> Reading[None]:
    """After the opening parenthesis. The call is certain at its first keyword, or at its end."""
    has_begun = False

    def begin() -> None:
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            reader.kept()
            out.begin_call(function)
            out.arguments("{")

    def read_keyword(reader: Reader, emit: Emit) -> Reading[None]:
        name = yield from _read_name(reader)
        yield from expect(reader, "=")
        begin()
        emit(f"{json.dumps(name)}: ")

    yield from _read_items(reader, out.arguments, ")", depth=1, key=read_keyword)
    begin()
    out.arguments("}")


def _read_key(reader: Reader, emit: Emit) -> Reading[None]:
    yield from _read_string(reader, emit)
    yield from expect(reader, ":")
    emit(": ")


def _read_items(
    reader: Reader, emit: Emit, closer: str, depth: int, key: Callable[[Reader, Emit], Reading[None]] | None = None
) -> Reading[None]:
    """Values up to and with `closer`, each behind its key; a comma may follow the last one."""
    if depth > MAX_DEPTH:
        raise NotTheFormat
    separator = ""
    while (yield from reader.skip_space()) != closer:
        emit(separator)
        if key is not None:
            yield from key(reader, emit)
        yield from _read_value(reader, emit, depth)
        separator = ", "
        if (yield from _comma_or(reader, closer)):
            return
    reader.take_to(reader.pos + 1)


def _read_value(reader: Reader, emit: Emit, depth: int) -> Reading[None]:
    match (yield from reader.skip_space()):
        case '"' | "'":
            yield from _read_string(reader, emit)
        case "{":
            reader.take_to(reader.pos + 1)
            emit("{")
            yield from _read_items(reader, emit, "}", depth + 1, _read_key)
            emit("}")
        case "[" | "(" as opener:
            reader.take_to(reader.pos + 1)
            emit("[")
            yield from _read_items(reader, emit, "]" if opener == "[" else ")", depth + 1)
            emit("]")
        case _:
            yield from read_scalar(reader, emit, _WORDS)


def _read_string(reader: Reader, emit: Emit) -> Reading[None]:
    """A string of Python in either kind of quotes, as JSON."""
    quote = yield from expect(reader, "\"'")
    emit('"')
    while True:
        yield from reader.run(_PLAIN, lambda text: emit(json.dumps(text, ensure_ascii=False)[1:-1]))
        char = yield from reader.take()
        if char == quote:
            emit('"')
            return
        text = (yield from _read_escape(reader)) if char == "\\" else char
        emit(json.dumps(text)[1:-1])


def _read_escape(reader: Reader) -> Reading[str]:
    """After a backslash; one that means nothing is itself, as in Python."""
    char = yield from reader.take()
    if char not in _NUM_HEX_DIGITS:
        return _ESCAPES.get(char, "\\" + char)
    digits = ""
    for _ in range(_NUM_HEX_DIGITS[char]):
        digits += yield from reader.take()
    if re.fullmatch(r"[0-9a-fA-F]+", digits) is None or (number := int(digits, 16)) > 0x10FFFF:
        raise NotTheFormat
    return chr(number)


def _read_name(reader: Reader) -> Reading[str]:
    pieces: list[str] = []
    yield from reader.run(_NAME, pieces.append)
    return "".join(pieces)


def _comma_or(reader: Reader, closer: str) -> Reading[bool]:
    """After an item: True where the list ends here."""
    return (yield from expect(reader, "," + closer)) == closer


PYTHONIC = pythonic()
LLAMA4_PYTHONIC = pythonic("<|python_start|>", "<|python_end|>")
