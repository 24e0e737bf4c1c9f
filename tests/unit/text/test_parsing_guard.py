from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.text.parsing import AnswerEvent, ContentDelta, ParsedAnswer, ReasoningDelta, ToolCallDelta
from kvik.text.parsing.guard import Guarded, Joined, join_neighbours


class Failing:
    """Holds text back up to a full stop, and cannot bear an exclamation mark."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> list[AnswerEvent]:
        self._held += text
        if "!" in self._held:
            raise RuntimeError("too loud")
        said, dot, self._held = self._held.rpartition(".")
        return [ReasoningDelta(said + dot)] if dot else []

    def finish(self) -> list[AnswerEvent]:
        if "?" in self._held:
            raise RuntimeError("who knows")
        return [ContentDelta(self._held)] if self._held else []


@pytest.mark.parametrize(
    ("pieces", "reasoning", "content"),
    [
        (["Well.", " So", " it is! ", "And on."], "Well.", " So it is! And on."),
        (["!", "a", "", "b"], "", "!ab"),
        (["a.", "b", "?"], "a.", "b?"),
        (["a.", "b"], "a.", "b"),
    ],
)
def test_a_parser_that_fails_costs_its_markup_only(
    pieces: list[str], reasoning: str, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    parser, parsed = Guarded(Failing()), ParsedAnswer()
    for piece in pieces:
        parsed.add(parser.push(piece))
    parsed.add(parser.finish())
    assert (parsed.reasoning, parsed.content) == (reasoning, content)
    fails = any(mark in content for mark in "!?")
    assert len(caplog.records) == fails
    assert ("test_parsing_guard.Failing" in caplog.text) == fails


@given(
    st.lists(
        st.one_of(
            st.builds(ContentDelta, st.text(max_size=3)),
            st.builds(ReasoningDelta, st.text(max_size=3)),
            st.builds(ToolCallDelta, st.just(0), st.none(), st.text(max_size=3)),
        )
    )
)
def test_joined_events_say_the_same(events: list[AnswerEvent]) -> None:
    events = [ToolCallDelta(0, "look", ""), *events]
    joined = join_neighbours(events)
    plain, short = ParsedAnswer(), ParsedAnswer()
    plain.add(events)
    short.add(joined)
    assert plain == short
    assert all(type(a) is not type(b) for a, b in pairwise(joined))


def test_calls_stay_apart() -> None:
    first, second = ToolCallDelta(0, "a", "{"), ToolCallDelta(1, "b", "{")
    events: list[AnswerEvent] = [first, ToolCallDelta(0, None, "}"), second, ToolCallDelta(1, None, "}")]
    assert join_neighbours(events) == [ToolCallDelta(0, "a", "{}"), ToolCallDelta(1, "b", "{}")]


class Letters:
    """One event per letter."""

    def push(self, text: str) -> list[AnswerEvent]:
        return [ContentDelta(letter) for letter in text]

    def finish(self) -> list[AnswerEvent]:
        return [ContentDelta("e"), ContentDelta("nd")]


def test_a_piece_of_text_makes_one_event() -> None:
    parser = Joined(Letters())
    assert parser.push("abc") == [ContentDelta("abc")]
    assert parser.finish() == [ContentDelta("end")]
