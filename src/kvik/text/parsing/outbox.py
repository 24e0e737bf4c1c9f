"""What a format says, gathered into as few events as possible. Knows no format.

White space between content and a call, or between calls, is the format's and not content: with `holds_space` it waits
here until it is clear what follows.
"""

from __future__ import annotations

from kvik.text.parsing.events import AnswerEvent, ContentDelta, ReasoningDelta, ToolCallDelta


class Outbox:
    """The events of one answer since the last `take`."""

    def __init__(self, holds_space: bool = False) -> None:
        self.num_calls = 0
        self._holds_space = holds_space
        self._events: list[AnswerEvent] = []
        self._spaces: list[str] = []
        """Of the content, not said yet."""
        self._name: str | None = None
        """Of a call that was begun and not said yet."""
        self._arguments: list[str] = []

    def reasoning(self, text: str) -> None:
        if text:
            self._events.append(ReasoningDelta(text))

    def content(self, text: str) -> None:
        stripped = text.rstrip() if self._holds_space else text
        if stripped:
            self._say_call()
            self._events.append(ContentDelta("".join([*self._spaces, stripped])))
            self._spaces = []
        if len(stripped) < len(text):
            self._spaces.append(text[len(stripped) :])

    def begin_call(self, name: str) -> None:
        """A call is certain; its arguments follow."""
        self._say_call()
        self._spaces = []
        self._name = name
        self.num_calls += 1

    def arguments(self, text: str) -> None:
        """A piece of the last call's arguments."""
        self._arguments.append(text)

    def take(self) -> list[AnswerEvent]:
        """All that was said, in order."""
        self._say_call()
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """The answer has ended: white space at its end is content, unless it follows a call."""
        self._say_call()
        if self._spaces and not self.num_calls:
            self._events.append(ContentDelta("".join(self._spaces)))
        self._spaces = []

    def _say_call(self) -> None:
        text = "".join(self._arguments)
        if self._name is not None or text:
            self._events.append(ToolCallDelta(self.num_calls - 1, self._name, text))
        self._name, self._arguments = None, []
