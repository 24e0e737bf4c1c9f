"""Parsers one after the other: special tokens out, then reasoning, then calls of tools. Knows no format."""

from __future__ import annotations

from collections.abc import Sequence

from kvik.text.parsing.events import AnswerEvent, AnswerParser, ContentDelta
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import FormatParser, Markers, Reader, Reading


class Chain:
    """What is content to `first` is read by `second`."""

    def __init__(self, first: AnswerParser, second: AnswerParser) -> None:
        self._first = first
        self._second = second

    def push(self, text: str) -> list[AnswerEvent]:
        return self._read_on(self._first.push(text))

    def finish(self) -> list[AnswerEvent]:
        return self._read_on(self._first.finish()) + self._second.finish()

    def _read_on(self, events: list[AnswerEvent]) -> list[AnswerEvent]:
        found: list[AnswerEvent] = []
        for event in events:
            if isinstance(event, ContentDelta):
                found += self._second.push(event.text)
            else:
                found.append(event)
        return found


def chained(parsers: Sequence[AnswerParser]) -> AnswerParser:
    """`parsers` in order; at least one."""
    chain = parsers[0]
    for parser in parsers[1:]:
        chain = Chain(chain, parser)
    return chain


def without_tokens(tokens: Sequence[str]) -> AnswerParser:
    """Leaves these special tokens out of the text, as `skip_special_tokens` does where no format needs some of them."""
    markers = Markers(*tokens)

    def read(reader: Reader, out: Outbox) -> Reading[None]:
        while (yield from reader.until(markers, out.content)):
            pass

    return FormatParser(read)
