"""What a format of tool calls is to the rest of kvik, and the protocol of plug-ins. Knows no format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvik.text.parsing.events import AnswerParser
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import FormatParser, Reader, Reading

Tools = Mapping[str, Mapping[str, Any]]
"""The tools of a request: their names, and the JSON schemas of their arguments."""


@dataclass(frozen=True, slots=True)
class CallMarkup:
    """How a format writes calls, for grammars that force some. Special tokens are written as their text.

    All calls: `begin`, then calls with `between` between them, then `end`. A call: `before_name`, the name,
    `before_arguments`, a JSON object, `after`.
    """

    before_name: str
    before_arguments: str
    after: str
    between: str = ""
    begin: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a model writes calls of tools. Plug-ins bring such records; only `new_parser` must be there."""

    new_parser: Callable[[Tools], AnswerParser]
    """A parser for one answer."""
    markers: tuple[str, ...] = ()
    """What must stay in the text, whether or not it is special tokens."""
    markup: CallMarkup | None = None
    """None: forced calls are written as a JSON list instead, which kvik reads itself."""

    @property
    def can_be_strict(self) -> bool:
        """Each call begins with a marker of its own, from which on a grammar can take over."""
        return self.markup is not None and not self.markup.begin and self.markup.before_name.startswith(self.markers)


def tool_format(
    read: Callable[[Reader, Outbox, Collection[str]], Reading[None]],
    markers: Sequence[str] = (),
    markup: CallMarkup | None = None,
) -> ToolFormat:
    """A format described by a generator; it is told the names of the tools."""

    def new_parser(tools: Tools) -> AnswerParser:
        return FormatParser(lambda reader, out: read(reader, out, tools.keys()), holds_space=True)

    return ToolFormat(new_parser, tuple(markers), markup)
