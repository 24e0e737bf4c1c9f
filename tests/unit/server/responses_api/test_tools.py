"""Flat tools, choices and text formats: to the shapes of chat completions, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ADD = {"type": "function", "name": "add", "description": "adds", "parameters": SCHEMA, "strict": True}
SUB = {"type": "function", "name": "sub"}


def test_tools_become_those_of_chat_completions(labelled: Any) -> None:
    body = labelled.post("C:ok", tools=[ADD, SUB]).json()
    chat = labelled.chats[-1]
    assert chat.tools == [
        {"type": "function", "function": {"name": "add", "description": "adds", "parameters": SCHEMA, "strict": True}},
        {"type": "function", "function": {"name": "sub"}},
    ]
    assert chat.tool_choice == "auto"
    assert body["tools"][0] == ADD
    assert body["tool_choice"] == "auto"


@pytest.mark.parametrize(
    ("choice", "names", "chat_choice"),
    [
        ("none", ["add", "sub"], "none"),
        ("required", ["add", "sub"], "required"),
        ({"type": "function", "name": "sub"}, ["add", "sub"], {"type": "function", "function": {"name": "sub"}}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "sub"}]},
            ["sub"],
            "required",
        ),
    ],
)
def test_a_choice_becomes_that_of_chat_completions(labelled: Any, choice: Any, names: Any, chat_choice: Any) -> None:
    body = labelled.post("C:ok", tools=[ADD, SUB], tool_choice=choice).json()
    chat = labelled.chats[-1]
    assert [tool["function"]["name"] for tool in chat.tools] == names
    assert chat.tool_choice == chat_choice
    assert body["tool_choice"] == choice


def test_without_tools_there_is_no_choice(labelled: Any) -> None:
    body = labelled.post("C:ok", tools=[], tool_choice="auto").json()
    assert labelled.chats[-1].tools is None
    assert body["tool_choice"] == "none"


@pytest.mark.parametrize(
    ("text", "response_format"),
    [
        ({"format": {"type": "text"}}, None),
        ({"format": {"type": "json_object"}}, {"type": "json_object"}),
        (
            {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        ),
    ],
)
def test_a_format_becomes_that_of_chat_completions(labelled: Any, text: Any, response_format: Any) -> None:
    body = labelled.post("C:{}", text=text).json()
    chat = labelled.chats[-1].model_dump(exclude_unset=True, by_alias=True)
    assert chat.get("response_format") == response_format
    assert body["text"]["format"]["type"] == text["format"]["type"]
    assert body["text"]["format"].get("schema") == text["format"].get("schema")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": ["x"]}, "tools.0"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [ADD, {"type": "mcp", "server_label": "x"}]}, "tools.1.type"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {"name": "add"}}]}, "tools.0.name"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools.0.name"),
        ({"tools": [{"type": "function", "name": 3}]}, "tools.0.name"),
        ({"tools": [ADD | {"parameters": "x"}]}, "tools.0.parameters"),
        ({"tools": [ADD | {"strict": "yes"}]}, "tools.0.strict"),
        ({"tools": [ADD | {"description": 1}]}, "tools.0.description"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": 3}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "name": "nope"}}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "allowed_tools", "mode": "x", "tools": []}}, "tool_choice.mode"),
        ({"tools": [ADD], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice.tools"),
        (
            {"tools": [ADD], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "add"}]}},
            "tool_choice.tools.0",
        ),
        ({"text": {"format": "json"}}, "text.format"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": []}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": 1}}}, "text.format.strict"),
    ],
)
def test_what_cannot_be_is_a_400_that_names_it(labelled: Any, fields: dict[str, Any], param: str) -> None:
    answer = labelled.post("C:x", **fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_tool_of_another_kind_is_named(labelled: Any) -> None:
    assert "web_search" in labelled.post("C:x", tools=[{"type": "web_search"}]).json()["error"]["message"]
