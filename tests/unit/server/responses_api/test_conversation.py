"""Input of every form -> the messages that the template gets; and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from kvik.config.limits import RequestLimits
from kvik.server.responses_api.conversation import chat_messages
from kvik.server.responses_api.input_items import check_outputs, read_input

CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "3"}


def messages_of(content: Any, instructions: str | None = None) -> list[dict[str, Any]]:
    items = read_input(content, lambda item_id: None, RequestLimits())
    check_outputs(items, 0)
    return chat_messages(items, instructions)


def test_a_string_is_a_message_of_the_user() -> None:
    assert messages_of("Hi") == [{"role": "user", "content": "Hi"}]


def test_instructions_come_first() -> None:
    assert messages_of("Hi", "be brief")[0] == {"role": "system", "content": "be brief"}


def test_messages_have_strings_or_parts() -> None:
    content = [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c", "annotations": []}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "user", "content": "d"},
    ]
    assert messages_of(content) == [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "d"},
    ]


def test_what_a_model_said_in_one_turn_is_one_message() -> None:
    content = [
        {"role": "user", "content": "1+2?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"role": "assistant", "content": "Let me see."},
        CALL,
        CALL | {"call_id": "c2"},
        OUTPUT,
        OUTPUT
        | {"call_id": "c2", "output": [{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"}]},
        {"role": "assistant", "content": "3"},
    ]
    function = {"name": "add", "arguments": '{"a": 1}'}
    assert messages_of(content) == [
        {"role": "user", "content": "1+2?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning": "hm",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": function},
                {"id": "c2", "type": "function", "function": function},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "3"},
        {"role": "tool", "tool_call_id": "c2", "name": "add", "content": "x\ny"},
        {"role": "assistant", "content": "3"},
    ]


def test_reasoning_after_text_begins_the_next_turn() -> None:
    content = [
        {"role": "assistant", "content": "a"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}], "content": None},
        {"role": "assistant", "content": "b"},
    ]
    assert messages_of(content) == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning": "short"},
    ]


def test_reasoning_that_cannot_be_read_is_left_out() -> None:
    secret = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    assert messages_of([{"role": "user", "content": "a"}, secret]) == [{"role": "user", "content": "a"}]


def test_ids_that_come_with_items_are_not_kept() -> None:
    [item] = read_input([{"role": "user", "content": "x", "id": "msg_mine"}], lambda item_id: None, RequestLimits())
    assert item["id"] != "msg_mine"


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (None, "input"), (3, "input"), ({}, "input"), ([], "input"), (["x"], "input.0"), ([{}], "input.0.type"),
        ([{"type": "web_search_call", "id": "x"}], "input.0.type"), ([{"type": []}], "input.0.type"),
        ([{"role": "tool", "content": "x"}], "input.0.role"), ([{"role": [], "content": "x"}], "input.0.role"),
        ([{"role": "user"}], "input.0.content"), ([{"role": "user", "content": 3}], "input.0.content"),
        ([{"role": "user", "content": ["x"]}], "input.0.content.0"),
        ([{"role": "user", "content": [{"text": "x"}]}], "input.0.content.0.type"),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "input.0.content.0.type"),
        ([{"role": "user", "content": [{"type": "input_text", "text": 3}]}], "input.0.content.0.text"),
        ([CALL | {"call_id": ""}], "input.0.call_id"), ([CALL | {"name": None}], "input.0.name"),
        ([CALL | {"arguments": {}}], "input.0.arguments"), ([CALL | {"arguments": "{"}], "input.0.arguments"),
        ([CALL | {"arguments": "[]"}], "input.0.arguments"), ([CALL, OUTPUT | {"output": 3}], "input.1.output"),
        ([{"role": "user", "content": "x"}, OUTPUT], "input.1.call_id"), ([OUTPUT, CALL], "input.0.call_id"),
        ([{"type": "reasoning", "content": "x"}], "input.0.content"),
        ([{"type": "reasoning", "content": [{"text": "x"}]}], "input.0.content.0"),
        ([{"type": "item_reference"}], "input.0.id"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_item_is_named(labelled: Any, content: Any, param: str) -> None:
    answer = labelled.post("C:x", input=content)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_an_unknown_reference_is_a_404(labelled: Any) -> None:
    answer = labelled.post("C:x", input=[{"id": "msg_1"}])
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "input.0.id")
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_too_many_items_are_refused(labelled: Any) -> None:
    answer = labelled.post("C:x", input=[{"role": "user", "content": "x"}] * 4097)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
