"""What a parser of answers says, and how what it said adds up to a message. Knows no format and no HTTP.

A parser is given an answer's text in pieces, cut anywhere, and says what is certain so far. Streams hand its events on
as they come; whole answers are the sum of the same events, so both ways give the same reasoning, content and calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ContentDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A call's first event has its name, and perhaps no arguments yet; the events after it have arguments alone."""

    index: int
    """0, 1, ... in the order of the calls within one answer."""
    name: str | None
    arguments: str
    """The next piece of the arguments: all pieces of a call joined are the text of a JSON object."""


AnswerEvent = ReasoningDelta | ContentDelta | ToolCallDelta


class AnswerParser(Protocol):
    """One answer's parser. Text that may still turn out to be markup is held back until it is certain."""

    def push(self, text: str) -> list[AnswerEvent]:
        """The next piece of the answer's text, of any length."""

    def finish(self) -> list[AnswerEvent]:
        """The answer has ended: say what was held back. Called once, after the last `push`."""


class PlainParser:
    """Of answers that are content and nothing else."""

    def push(self, text: str) -> list[AnswerEvent]:
        return [ContentDelta(text)] if text else []

    def finish(self) -> list[AnswerEvent]:
        return []


@dataclass(slots=True)
class ParsedToolCall:
    name: str
    arguments: str = ""
    """The text of a JSON object; of an answer that was cut short, the part of it that there is."""


@dataclass(slots=True)
class ParsedAnswer:
    """The sum of an answer's events."""

    reasoning: str = ""
    content: str = ""
    tool_calls: list[ParsedToolCall] = field(default_factory=list)

    @classmethod
    def of_text(cls, text: str, parser: AnswerParser) -> ParsedAnswer:
        """What a fresh `parser` says of a whole answer."""
        parsed = cls()
        parsed.add(parser.push(text))
        parsed.add(parser.finish())
        return parsed

    def add(self, events: Iterable[AnswerEvent]) -> None:
        for event in events:
            match event:
                case ReasoningDelta(text):
                    self.reasoning += text
                case ContentDelta(text):
                    self.content += text
                case ToolCallDelta(index, name, arguments):
                    if name is not None:
                        self.tool_calls.append(ParsedToolCall(name))
                    self.tool_calls[index].arguments += arguments
