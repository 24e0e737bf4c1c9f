"""Hermes, as Qwen 2.5 and Qwen 3 write it: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

Several calls have markup each; several objects within one markup are read as well.
"""

from __future__ import annotations

from collections.abc import Collection

from kvik.text.parsing.calls import attempt, read_call
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import Markers, Reader, Reading
from kvik.text.parsing.tool_format import CallMarkup, tool_format

BEGIN, END = "<tool_call>", "</tool_call>"
_BEGIN, _END = Markers(BEGIN), Markers(END)


def read(reader: Reader, out: Outbox, known: Collection[str] = ()) -> Reading[None]:
    while (yield from reader.until(_BEGIN, out.content)):
        reader.keep(BEGIN)
        while (yield from attempt(reader, out, read_call(reader, out))):
            reader.keep()
            if (yield from reader.skip_space()) != "{":
                yield from reader.match(_END)
                space = reader.kept()
                out.content(space if not space.endswith(END) else "")
                break


HERMES = tool_format(
    read,
    markers=(BEGIN, END),
    markup=CallMarkup(BEGIN + '\n{"name": "', '", "arguments": ', "}\n" + END, between="\n"),
)
