from __future__ import annotations

from typing import Any

import pytest

from kvik.errors import InvalidRequestError
from kvik.text.conversation import template_messages

PARTS = [{"type": "text", "text": "one"}, {"type": "input_text", "text": "two"}, "three"]


def test_parts_become_one_string_or_text_parts() -> None:
    message = {"role": "user", "content": PARTS}
    assert template_messages([message], "string")[0]["content"] == "one\ntwo\nthree"
    texts = [{"type": "text", "text": t} for t in ("one", "two", "three")]
    assert template_messages([message], "openai")[0]["content"] == texts


def test_a_string_becomes_a_text_part_where_parts_are_wanted() -> None:
    message = {"role": "user", "content": "hi", "name": "Ann"}
    assert template_messages([message], "string") == [message]
    expected = {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "Ann"}
    assert template_messages([message], "openai") == [expected]


def test_arguments_of_tool_calls_become_objects_and_the_callers_stay() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    (plain,) = template_messages([message], "string")
    assert plain["content"] is None
    assert plain["tool_calls"][0]["function"] == {"name": "f", "arguments": {"x": 1}}
    assert call["function"]["arguments"] == '{"x": 1}'  # type: ignore[index]


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_reasoning_is_there_under_both_names(key: str) -> None:
    (plain,) = template_messages([{"role": "assistant", "content": "4", key: "2+2"}], "string")
    assert plain["reasoning"] == plain["reasoning_content"] == "2+2"


@pytest.mark.parametrize(
    ("message", "param", "said"),
    [
        ("hi", "messages.0", "object with a role"),
        ({"content": "hi"}, "messages.0", "object with a role"),
        ({"role": "user", "content": 3}, "messages.0.content", "got int"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages.0.content.0", "reads text only"),
        ({"role": "user", "content": [{"type": ["x"]}]}, "messages.0.content.0", "reads text only"),
        ({"role": "user", "content": [{"type": "text", "text": 1}]}, "messages.0.content.0.text", "string"),
        ({"role": "user", "content": [1]}, "messages.0.content.0", "got int"),
        ({"role": "assistant", "tool_calls": [{}]}, "messages.0.tool_calls.0", "function"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]},
            "messages.0.tool_calls.0.function.arguments",
            "JSON object",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "[]"}}]},
            "messages.0.tool_calls.0.function.arguments",
            "got list",
        ),
    ],
)
def test_what_is_wrong_is_named(message: Any, param: str, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        template_messages([message], "string")
    assert caught.value.param == param


def test_no_messages() -> None:
    with pytest.raises(InvalidRequestError, match="at least one"):
        template_messages([], "string")


def test_the_older_form_of_a_call_is_a_tool_call():
    older = [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    ]
    called, answered = template_messages(older, "string")
    assert called["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {}}}]
    assert "function_call" not in called
    assert (answered["role"], answered["content"]) == ("tool", "1")
