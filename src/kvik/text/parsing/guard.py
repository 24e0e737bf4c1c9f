"""What stands around the parsers of an answer: one that fails costs its markup, not the answer; and what a piece of
text says several times over is said once.
"""

from __future__ import annotations

from kvik.telemetry.log import get_logger
from kvik.text.parsing.events import AnswerEvent, AnswerParser, ContentDelta, ReasoningDelta, ToolCallDelta

logger = get_logger(__name__)


class Guarded:
    """A parser that may be anybody's. Once it has raised, the text that it has not answered for is content."""

    def __init__(self, parser: AnswerParser) -> None:
        self._parser: AnswerParser | None = parser
        self._unanswered = ""
        """Pushed since it last said something."""

    def push(self, text: str) -> list[AnswerEvent]:
        if self._parser is None:
            return [ContentDelta(text)] if text else []
        self._unanswered += text
        try:
            events = self._parser.push(text)
        except Exception:
            return self._give_up()
        if events:
            self._unanswered = ""
        return events

    def finish(self) -> list[AnswerEvent]:
        if self._parser is None:
            return []
        try:
            return self._parser.finish()
        except Exception:
            return self._give_up()

    def _give_up(self) -> list[AnswerEvent]:
        kind = type(self._parser)
        name = f"{kind.__module__}.{kind.__qualname__}"
        logger.exception("the parser %s failed; the rest of its answer is given as content", name)
        self._parser = None
        return [ContentDelta(self._unanswered)] if self._unanswered else []


class Joined:
    """The same events, neighbours of one kind as one: a step's text makes at most one delta per place."""

    def __init__(self, parser: AnswerParser) -> None:
        self._parser = parser

    def push(self, text: str) -> list[AnswerEvent]:
        return join_neighbours(self._parser.push(text))

    def finish(self) -> list[AnswerEvent]:
        return join_neighbours(self._parser.finish())


def join_neighbours(events: list[AnswerEvent]) -> list[AnswerEvent]:
    """Events that say the same in fewer words."""
    joined: list[AnswerEvent] = []
    for event in events:
        both = _both(joined[-1], event) if joined else None
        if both is None:
            joined.append(event)
        else:
            joined[-1] = both
    return joined


def _both(before: AnswerEvent, after: AnswerEvent) -> AnswerEvent | None:
    """One event in place of two, where that is possible."""
    match before, after:
        case ContentDelta(first), ContentDelta(second):
            return ContentDelta(first + second)
        case ReasoningDelta(first), ReasoningDelta(second):
            return ReasoningDelta(first + second)
        case ToolCallDelta(index, name, first), ToolCallDelta(same, None, second) if same == index:
            return ToolCallDelta(index, name, first + second)
    return None
