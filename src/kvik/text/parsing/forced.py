"""Calls that a grammar has forced where no format is configured, and answers that may have one call only.

`required` is written as a list of objects with `name` and `arguments`, a named call as its arguments alone.
"""

from __future__ import annotations

from kvik.text.parsing.calls import attempt, read_calls
from kvik.text.parsing.events import AnswerEvent, AnswerParser, ContentDelta, ToolCallDelta
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import FormatParser, Reader, Reading
from kvik.text.parsing.tool_format import CallMarkup

LIST_MARKUP = CallMarkup('{"name": "', '", "arguments": ', "}", between=", ", begin="[", end="]")


def forced_list_parser() -> AnswerParser:
    """Of a list of calls and nothing else."""

    def read(reader: Reader, out: Outbox) -> Reading[None]:
        reader.keep()
        yield from attempt(reader, out, read_calls(reader, out))

    return FormatParser(read, holds_space=True)


class NamedCallParser:
    """Of an answer that is the arguments of a call of `name`."""

    def __init__(self, name: str) -> None:
        self._name: str | None = name

    def push(self, text: str) -> list[AnswerEvent]:
        if self._name is not None:
            text = text.lstrip()
        if not text:
            return []
        name, self._name = self._name, None
        return [ToolCallDelta(0, name, text)]

    def finish(self) -> list[AnswerEvent]:
        return []


class FirstCallOnly:
    """Leaves out all calls of `parser` but the first."""

    def __init__(self, parser: AnswerParser) -> None:
        self._parser = parser

    def push(self, text: str) -> list[AnswerEvent]:
        return _without_more_calls(self._parser.push(text))

    def finish(self) -> list[AnswerEvent]:
        return _without_more_calls(self._parser.finish())


class CallsAlone:
    """Leaves out what is no call: of a forced answer that was cut, the markup of a call that has not begun."""

    def __init__(self, parser: AnswerParser) -> None:
        self._parser = parser

    def push(self, text: str) -> list[AnswerEvent]:
        return _without_content(self._parser.push(text))

    def finish(self) -> list[AnswerEvent]:
        return _without_content(self._parser.finish())


def _without_content(events: list[AnswerEvent]) -> list[AnswerEvent]:
    return [event for event in events if not isinstance(event, ContentDelta)]


def _without_more_calls(events: list[AnswerEvent]) -> list[AnswerEvent]:
    return [event for event in events if not (isinstance(event, ToolCallDelta) and event.index > 0)]
