"""Formats with calls as JSON between markers: an object or a list of them behind a marker, and perhaps one at its end.

Hermes, as Qwen 2.5 and Qwen 3 write it, is `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`; Granite 3 is
`<|tool_call|>[{...}, {...}]`. Several objects within one pair of markers are read as well.
"""

from __future__ import annotations

from collections.abc import Collection

from kvik.text.parsing.calls import attempt, read_call, read_calls
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import Markers, Reader, Reading
from kvik.text.parsing.tool_format import CallMarkup, ToolFormat, tool_format


def marked_json(
    begins: tuple[str, ...], ends: tuple[str, ...], markup: CallMarkup, may_be_bare: bool = False
) -> ToolFormat:
    """`may_be_bare`: a list at the beginning of the answer needs no marker."""
    begin_markers, end_markers = Markers(*begins), Markers(*ends) if ends else None

    def read(reader: Reader, out: Outbox, known: Collection[str]) -> Reading[None]:
        if may_be_bare:
            reader.keep()
            if (yield from reader.skip_space()) == "[":
                yield from attempt(reader, out, read_calls(reader, out, known or None, bare=True))
            else:
                out.content(reader.kept())
        while begin := (yield from reader.until(begin_markers, out.content)):
            reader.keep(begin)
            while (yield from attempt(reader, out, _one_or_more(reader, out))):
                reader.keep()
                if (yield from reader.skip_space()) in ("{", "[") and end_markers is not None:
                    continue
                has_end = end_markers is not None and (yield from reader.match(end_markers))
                space = reader.kept()
                out.content("" if has_end else space)
                break

    return tool_format(read, begins + ends, markup)


def _one_or_more(reader: Reader, out: Outbox) -> Reading[None]:
    yield from read_calls(reader, out) if (yield from reader.skip_space()) == "[" else read_call(reader, out)


def _object_markup(begin: str, end: str, between: str = "\n") -> CallMarkup:
    return CallMarkup(begin + '{"name": "', '", "arguments": ', "}" + end, between=between)


def _list_markup(begin: str, end: str = "") -> CallMarkup:
    return CallMarkup('{"name": "', '", "arguments": ', "}", between=", ", begin=begin + "[", end="]" + end)


HERMES = marked_json(("<tool_call>",), ("</tool_call>",), _object_markup("<tool_call>\n", "\n</tool_call>"))
GRANITE = marked_json(("<|tool_call|>", "<tool_call>"), (), _list_markup("<|tool_call|>"), may_be_bare=True)
GRANITE_20B = marked_json(("<function_call>",), (), _object_markup("<function_call> ", ""))
JAMBA = marked_json(("<tool_calls>",), ("</tool_calls>",), _list_markup("<tool_calls>", "</tool_calls>"))
LONGCAT = marked_json(
    ("<longcat_tool_call>",),
    ("</longcat_tool_call>",),
    _object_markup("<longcat_tool_call>\n", "\n</longcat_tool_call>"),
)
PHI4_MINI = marked_json(("functools",), (), _list_markup("functools"))
