"""Events of a parser add up to a message, however they were cut."""

from __future__ import annotations

from kvik.text.parsing import ContentDelta, ParsedAnswer, ParsedToolCall, PlainParser, ReasoningDelta, ToolCallDelta


def test_events_add_up():
    parsed = ParsedAnswer()
    parsed.add([ReasoningDelta("hm"), ReasoningDelta("m"), ContentDelta("so")])
    parsed.add([ToolCallDelta(0, "f", ""), ToolCallDelta(0, None, '{"a":'), ToolCallDelta(0, None, "1}")])
    parsed.add([ToolCallDelta(1, "g", "{}"), ContentDelta(".")])
    assert parsed == ParsedAnswer(
        reasoning="hmm", content="so.", tool_calls=[ParsedToolCall("f", '{"a":1}'), ParsedToolCall("g", "{}")]
    )


def test_a_plain_answer_is_content():
    assert ParsedAnswer.of_text("<think>so</think>", PlainParser()) == ParsedAnswer(content="<think>so</think>")
    assert PlainParser().push("") == []
