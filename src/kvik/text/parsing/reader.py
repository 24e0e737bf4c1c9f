"""Text that arrives in pieces, read by generators as if it were there as a whole. Knows no format.

A format is a generator that takes text from a `Reader` and says things to an `Outbox`. Where it needs text that is not
there yet it yields, and goes on when the next piece comes; so there is one description of a format, however the text
was cut. What was read is forgotten: time is linear in the text, memory is what a format holds back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TypeVar

from kvik.text.parsing.events import AnswerEvent
from kvik.text.parsing.outbox import Outbox

T = TypeVar("T")
Reading = Generator[None, None, T]
"""Yields where more text is needed."""
_SPACE = re.compile(r"[ \t\r\n]+")


class NotTheFormat(Exception):
    """What follows is not what the format wants. Never leaves this folder: such text is content."""


class TextEnded(NotTheFormat):
    """The answer ended in the midst of it."""


class Markers:
    """Strings that mean something; none may be a part of another, or what is found would depend on the cuts."""

    def __init__(self, *texts: str) -> None:
        assert not any(a in b for a in texts for b in texts if a is not b)
        self.texts = texts
        self.pattern = re.compile("|".join(map(re.escape, texts)))
        self._firsts = frozenset(text[0] for text in texts)
        self._max_chars = max(map(len, texts))

    def num_held(self, text: str, start: int) -> int:
        """Characters at the end of `text[start:]` that may begin a marker."""
        begin = max(start, len(text) - self._max_chars + 1)
        for at in range(begin, len(text)):
            if text[at] in self._firsts and self.may_begin(text[at:]):
                return len(text) - at
        return 0

    def may_begin(self, text: str) -> bool:
        return any(marker.startswith(text) for marker in self.texts)


class Reader:
    """`text[pos:]` is there and unread."""

    def __init__(self) -> None:
        self.text = ""
        self.pos = 0
        self.has_ended = False
        self._kept: list[str] | None = None

    def add(self, text: str) -> None:
        self.text = self.text[self.pos :] + text
        self.pos = 0

    def take_to(self, end: int) -> str:
        """The text from here to position `end`; it is read then."""
        taken = self.text[self.pos : end]
        self.pos = end
        if self._kept is not None:
            self._kept.append(taken)
        return taken

    def keep(self, first: str = "") -> None:
        """From here on keep what is read, behind `first`, so that it can be given back as content."""
        self._kept = [first]

    def kept(self) -> str:
        """All that was read since `keep`; ends the keeping."""
        text = "".join(self._kept or ())
        self._kept = None
        return text

    @property
    def is_keeping(self) -> bool:
        return self._kept is not None

    def peek(self) -> Reading[str]:
        """The next character, "" at the end."""
        while self.pos == len(self.text):
            if self.has_ended:
                return ""
            yield
        return self.text[self.pos]

    def take(self) -> Reading[str]:
        """The next character. Raises `TextEnded`."""
        if not (yield from self.peek()):
            raise TextEnded
        return self.take_to(self.pos + 1)

    def skip_space(self, emit: Callable[[str], object] | None = None) -> Reading[str]:
        """Read white space, and see what comes then: its first character, "" at the end."""
        while (char := (yield from self.peek())) and char in " \t\r\n":
            found = _SPACE.match(self.text, self.pos)
            assert found is not None
            space = self.take_to(found.end())
            if emit is not None:
                emit(space)
        return char

    def match(self, markers: Markers) -> Reading[str]:
        """Read the marker that comes next; "" where none does."""
        while True:
            found = markers.pattern.match(self.text, self.pos)
            if found is not None:
                return self.take_to(found.end())
            if self.has_ended or not markers.may_begin(self.text[self.pos : self.pos + 256]):
                return ""
            yield

    def run(self, pattern: re.Pattern[str], emit: Callable[[str], object]) -> Reading[None]:
        """Read all characters that match; `pattern` is a class of characters with a `+`."""
        while (yield from self.peek()):
            found = pattern.match(self.text, self.pos)
            if found is None:
                return
            emit(self.take_to(found.end()))

    def until(self, markers: Markers, emit: Callable[[str], object]) -> Reading[str]:
        """Read up to and with the first marker, which is returned; "" at the end. What is before it is emitted."""
        while True:
            found = markers.pattern.search(self.text, self.pos)
            if found is not None:
                emit(self.take_to(found.start()))
                return self.take_to(found.end())
            num_held = 0 if self.has_ended else markers.num_held(self.text, self.pos)
            if len(self.text) - num_held > self.pos:
                emit(self.take_to(len(self.text) - num_held))
            if self.has_ended:
                return ""
            yield

    def rest(self, emit: Callable[[str], object]) -> Reading[None]:
        """Read all that is still to come."""
        while (yield from self.peek()):
            emit(self.take_to(len(self.text)))


Format = Callable[[Reader, Outbox], Reading[None]]
"""Reads one answer. What it leaves unread when it ends is content."""


class FormatParser:
    """The `AnswerParser` of a format. `holds_space`: white space before and after calls is not content."""

    def __init__(self, read: Format, holds_space: bool = False) -> None:
        self._reader = Reader()
        self._out = Outbox(holds_space)
        self._reading = self._all(read)
        next(self._reading)

    def push(self, text: str) -> list[AnswerEvent]:
        self._reader.add(text)
        next(self._reading)
        return self._out.take()

    def finish(self) -> list[AnswerEvent]:
        self._reader.has_ended = True
        next(self._reading, None)
        self._out.finish()
        return self._out.take()

    def _all(self, read: Format) -> Reading[None]:
        yield from read(self._reader, self._out)
        yield from self._reader.rest(self._out.content)
