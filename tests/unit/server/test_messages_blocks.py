"""Content blocks from the events of a parser: the same for a whole answer as for a stream of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.server.messages_api.blocks import BlockClosed, BlockGrew, BlockOpened, BlockSequence, arguments_of
from kvik.text.parsing import AnswerEvent, ContentDelta, ReasoningDelta, ToolCallDelta

ANSWER: list[AnswerEvent] = [
    ReasoningDelta("Let "), ReasoningDelta("me."), ContentDelta("Ad"), ContentDelta("ding."),
    ToolCallDelta(0, "add", ""), ToolCallDelta(0, None, '{"a": '), ToolCallDelta(0, None, "1}"),
    ToolCallDelta(1, "now", "{}"),
]  # fmt: skip


def closed(events: list[AnswerEvent], **options: Any) -> list[dict[str, Any]]:
    blocks = BlockSequence(**options)
    steps = blocks.add(events) + blocks.end()
    return [step.block for step in steps if isinstance(step, BlockClosed)]


def test_an_answer_of_everything() -> None:
    thought, text, first, second = closed(ANSWER)
    assert thought["thinking"] == "Let me."
    assert len(thought["signature"]) == 64
    assert text == {"type": "text", "text": "Adding."}
    assert (first["name"], first["input"]) == ("add", {"a": 1})
    assert (second["name"], second["input"]) == ("now", {})
    assert first["id"] != second["id"]
    assert first["id"].startswith("toolu_")


def test_silence_is_an_empty_text() -> None:
    assert closed([]) == [{"type": "text", "text": ""}]


def test_thoughts_may_be_left_out() -> None:
    thought = closed(ANSWER, shows_thinking=False)[0]
    assert thought["thinking"] == ""
    assert thought["signature"]


def test_text_after_a_call_is_a_block_of_its_own() -> None:
    events: list[AnswerEvent] = [ToolCallDelta(0, "now", "{}"), ContentDelta("Done.")]
    assert [b["type"] for b in closed(events)] == ["tool_use", "text"]


EVENTS = st.lists(
    st.builds(ReasoningDelta, st.text(max_size=3))
    | st.builds(ContentDelta, st.text(max_size=3))
    | st.just(ToolCallDelta(0, "f", ""))
)


@given(EVENTS)
def test_blocks_open_grow_and_close_one_after_the_other(events: list[AnswerEvent]) -> None:
    blocks = BlockSequence()
    steps = [step for event in events for step in blocks.add([event])] + blocks.end()
    open_index = None
    texts: dict[int, str] = {}
    for step in steps:
        match step:
            case BlockOpened(index):
                assert open_index is None
                assert index == len(texts)
                open_index, texts[index] = index, ""
            case BlockGrew(index, _, text):
                assert index == open_index
                texts[index] += text
            case BlockClosed(index, block):
                assert index == open_index
                assert block.get("text", block.get("thinking", "")) == texts[index]
                open_index = None
    assert open_index is None
    assert texts
    said = "".join(e.text for e in events if not isinstance(e, ToolCallDelta))
    assert "".join(texts.values()) == said


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        (" ", {}),
        ('{"a": 1}', {"a": 1}),
        ('{"a": 1, "b": [2', {"a": 1, "b": [2]}),
        ('{"a"', {}),
        ("[1]", {}),
        ("nonsense", {}),
    ],
)
def test_arguments(text: str, arguments: dict[str, Any]) -> None:
    assert arguments_of(text) == arguments
