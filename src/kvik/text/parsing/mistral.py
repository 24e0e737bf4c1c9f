"""Mistral: `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`, and since tokenizer version 11
`[TOOL_CALLS]name{...}[TOOL_CALLS]name{...}`, where `[CALL_ID]...` and `[ARGS]` may stand before the arguments.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from kvik.text.parsing.calls import attempt, checked_name, read_arguments, read_call, read_calls
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import Markers, NotTheFormat, Reader, Reading
from kvik.text.parsing.tool_format import CallMarkup, tool_format

BEGIN, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_BEGIN, _CALL_ID, _ARGS = Markers(BEGIN), Markers(CALL_ID), Markers(ARGS)
_NAME = re.compile(r"[A-Za-z0-9_.:/-]+")


def read(reader: Reader, out: Outbox, known: Collection[str]) -> Reading[None]:
    del known
    while begin := (yield from reader.until(_BEGIN, out.content)):
        reader.keep(begin)
        yield from attempt(reader, out, _calls(reader, out))


def _calls(reader: Reader, out: Outbox) -> Reading[None]:
    match (yield from reader.skip_space()):
        case "[":
            yield from read_calls(reader, out)
        case "{":
            yield from read_call(reader, out)
        case _:
            yield from _named_call(reader, out)


def _named_call(reader: Reader, out: Outbox) -> Reading[None]:
    name = yield from read_name(reader)
    if (yield from reader.match(_CALL_ID)):
        yield from read_name(reader)
    yield from reader.match(_ARGS)
    if (yield from reader.skip_space()) != "{":
        raise NotTheFormat
    yield from read_arguments(reader, out, name)


def read_name(reader: Reader) -> Reading[str]:
    """A function's name as it stands in text without quotes."""
    pieces: list[str] = []
    yield from reader.run(_NAME, pieces.append)
    return checked_name("".join(pieces), None)


MISTRAL = tool_format(
    read,
    markers=(BEGIN, CALL_ID, ARGS),
    markup=CallMarkup('{"name": "', '", "arguments": ', "}", between=", ", begin=BEGIN + "[", end="]"),
)
