"""Llama 3.1 to 3.3: a JSON object `{"name": ..., "parameters": {...}}` without markup, several separated by `;`.

An object is a call only at the beginning of the answer or behind `<|python_tag|>`, and only with a tool's name.
"""

from __future__ import annotations

from collections.abc import Collection

from kvik.text.parsing.calls import attempt, read_call, read_calls
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import Markers, Reader, Reading
from kvik.text.parsing.tool_format import CallMarkup, tool_format

TAG = "<|python_tag|>"
_TAG = Markers(TAG)


def read(reader: Reader, out: Outbox, known: Collection[str]) -> Reading[None]:
    reader.keep()
    while True:
        yield from reader.skip_space()
        yield from reader.match(_TAG)
        while (yield from attempt(reader, out, _one_or_more(reader, out, known or None))):
            reader.keep()
            if (yield from reader.skip_space()) == ";":
                reader.take_to(reader.pos + 1)
                yield from reader.skip_space()
            if (yield from reader.peek()) not in ("{", "["):
                out.content(reader.kept())
                break
        if not (tag := (yield from reader.until(_TAG, out.content))):
            return
        reader.keep(tag)


def _one_or_more(reader: Reader, out: Outbox, known: Collection[str] | None) -> Reading[None]:
    is_list = (yield from reader.skip_space()) == "["
    yield from read_calls(reader, out, known, bare=True) if is_list else read_call(reader, out, known, bare=True)


LLAMA3_JSON = tool_format(read, markers=(TAG,), markup=CallMarkup('{"name": "', '", "parameters": ', "}", between="; "))
