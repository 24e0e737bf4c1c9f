"""Qwen 3 Coder: calls as elements, `<function=NAME><parameter=KEY>VALUE</parameter>...</function>` in `<tool_call>`.

Values are bare text. The tool's schema says which of them are strings, streamed as they come; others are read as JSON
once they are whole, and are strings where they are no JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kvik.text.parsing.calls import attempt
from kvik.text.parsing.events import AnswerParser
from kvik.text.parsing.json_text import Emit, is_json
from kvik.text.parsing.mistral import read_name
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import FormatParser, Markers, NotTheFormat, Reader, Reading
from kvik.text.parsing.tool_format import ToolFormat, Tools

MARKERS = ("<tool_call>", "</tool_call>")
_CALL, _CALL_END, _FUNCTION = Markers("<tool_call>", "<function="), Markers("</tool_call>"), Markers("<function=")
_NEXT, _VALUE_END, _CLOSE = Markers("<parameter=", "</function>"), Markers("</parameter>"), Markers(">")
_KEY = re.compile(r"[^<>\n]+")


def _new_parser(tools: Tools) -> AnswerParser:
    return FormatParser(lambda reader, out: _read(reader, out, tools), holds_space=True)


def _read(reader: Reader, out: Outbox, tools: Tools) -> Reading[None]:
    while begin := (yield from reader.until(_CALL, out.content)):
        reader.keep(begin)
        if (yield from attempt(reader, out, _read_call(reader, out, tools, begin))):
            reader.keep()
            yield from reader.skip_space()
            has_end = yield from reader.match(_CALL_END)
            space = reader.kept()
            out.content("" if has_end else space)


def _read_call(reader: Reader, out: Outbox, tools: Tools, begin: str) -> Reading[None]:
    if begin == MARKERS[0]:
        yield from reader.skip_space()
        yield from _expect(reader, _FUNCTION)
    name = yield from read_name(reader)
    yield from _expect(reader, _CLOSE)
    reader.kept()
    out.begin_call(name)
    out.arguments("{")
    separator = ""
    while True:
        yield from reader.skip_space()
        if (yield from _expect(reader, _NEXT)) == "</function>":
            break
        pieces: list[str] = []
        yield from reader.run(_KEY, pieces.append)
        yield from _expect(reader, _CLOSE)
        key = "".join(pieces)
        out.arguments(f"{separator}{json.dumps(key, ensure_ascii=False)}: ")
        yield from _read_value(reader, out.arguments, _is_string(tools.get(name), key))
        separator = ", "
    out.arguments("}")


def _read_value(reader: Reader, emit: Emit, is_string: bool) -> Reading[None]:
    """The text up to `</parameter>`, without the line breaks around it."""
    if (yield from reader.peek()) == "\n":
        reader.take_to(reader.pos + 1)
    held: list[str] = []
    if not is_string:
        if not (yield from reader.until(_VALUE_END, held.append)):
            raise NotTheFormat
        text = "".join(held).removesuffix("\n")
        emit(text if is_json(text) else json.dumps(text, ensure_ascii=False))
    else:
        emit('"')
        if not (yield from reader.until(_VALUE_END, _line_break_holder(emit, held))):
            raise NotTheFormat
        emit('"')


def _line_break_holder(emit: Emit, held: list[str]) -> Emit:
    """Emits text as the inside of a JSON string, a line break at its end only when more follows."""

    def push(text: str) -> None:
        if not text:
            return
        text = "".join(held) + text
        held.clear()
        if text.endswith("\n"):
            held.append("\n")
            text = text[:-1]
        emit(json.dumps(text, ensure_ascii=False)[1:-1])

    return push


def _is_string(schema: Mapping[str, Any] | None, key: str) -> bool:
    """Whether the schema says so; a tool without a schema for `key` leaves it open."""
    properties = (schema or {}).get("properties")
    found = properties.get(key) if isinstance(properties, dict) else None
    return isinstance(found, dict) and found.get("type") == "string"


def _expect(reader: Reader, markers: Markers) -> Reading[str]:
    found = yield from reader.match(markers)
    if not found:
        raise NotTheFormat
    return found


QWEN3_XML = ToolFormat(_new_parser, MARKERS)
