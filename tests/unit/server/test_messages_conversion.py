"""Bodies of the Messages API as the chat requests that mean the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.errors import InvalidRequestError, RequestError
from kvik.server.messages_api.chat_request import in_messages_terms, to_chat_request
from kvik.server.messages_api.conversation import chat_messages
from kvik.server.messages_api.protocol import ConversationFields, MessagesRequest

Json = dict[str, Any]

CALL = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "2"}
TOOL = {"name": "add", "description": "adds", "input_schema": {"type": "object"}}


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def user(*blocks: Json) -> Json:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Json) -> Json:
    return {"role": "assistant", "content": list(blocks)}


def chat(disabled_effort: str = "auto", **fields: Any) -> Any:
    body = {"model": "m", "max_tokens": 2000, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return to_chat_request(MessagesRequest.model_validate(body), disabled_effort)


def refusal(**fields: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        chat(**fields)
    return caught.value


def test_strings_are_messages() -> None:
    assert chat_messages("Be brief.", [{"role": "user", "content": "Hi"}]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


def test_several_blocks_are_parts() -> None:
    system = [text("a"), {**text("b"), "cache_control": {"type": "ephemeral"}}]
    assert chat_messages(system, [user(text("c"))]) == [
        {"role": "system", "content": [text("a"), text("b")]},
        {"role": "user", "content": "c"},
    ]


def test_an_empty_system_says_nothing() -> None:
    for nothing in (None, "", []):
        assert [m["role"] for m in chat_messages(nothing, [user(text("c"))])] == ["user"]


def test_a_system_message_stays_where_it_is() -> None:
    messages = [user(text("a")), {"role": "system", "content": "b"}, user(text("c"))]
    assert [(m["role"], m["content"]) for m in chat_messages(None, messages)] == [
        ("user", "a"), ("system", "b"), ("user", "c"),
    ]  # fmt: skip


def test_an_agents_turns() -> None:
    thought = {"type": "thinking", "thinking": "Let me add.", "signature": "s"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    messages = [user(text("1+1?")), assistant(thought, hidden, text("Adding."), CALL), user(RESULT, text("And?"))]
    assert chat_messages(None, messages)[1:] == [
        {
            "role": "assistant",
            "content": "Adding.",
            "reasoning": "Let me add.",
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "2", "name": "add"},
        {"role": "user", "content": "And?"},
    ]


def test_an_assistant_that_only_calls_has_no_content() -> None:
    assert chat_messages(None, [assistant(CALL), user(RESULT)])[0]["content"] is None


def test_neighbours_of_one_role_are_one_message() -> None:
    second = {**CALL, "id": "t2"}
    messages = [
        user(text("a")), user(text("b")), assistant(CALL), assistant(second),
        user(RESULT), user({**RESULT, "tool_use_id": "t2"}),
    ]  # fmt: skip
    chat = chat_messages(None, messages)
    assert [m["role"] for m in chat] == ["user", "assistant", "tool", "tool"]
    assert chat[0]["content"] == [text("a"), text("b")]
    assert [c["id"] for c in chat[1]["tool_calls"]] == ["t1", "t2"]


@pytest.mark.parametrize(
    ("result", "content"),
    [
        ({}, ""),
        ({"content": "no"}, "no"),
        ({"content": [text("a"), text("b")]}, [text("a"), text("b")]),
        ({"content": "no file", "is_error": True}, "Error: no file"),
        ({"content": [{"type": "tool_reference", "tool_name": "add"}]}, "add"),
    ],
)
def test_what_a_tool_brought(result: Json, content: Any) -> None:
    block = {"type": "tool_result", "tool_use_id": "unseen", **result}
    assert chat_messages(None, [user(block)]) == [{"role": "tool", "tool_call_id": "unseen", "content": content}]


def test_a_document_of_text_is_its_text() -> None:
    block = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    assert chat_messages(None, [user(block)])[0]["content"] == "words"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "content": "x"}, "messages.0.role"),
        ({"content": "x"}, "messages.0.role"),
        ({"role": "user"}, "messages.0.content"),
        ({"role": "user", "content": 3}, "messages.0.content"),
        (user("text"), "messages.0.content.0"),  # type: ignore[arg-type]
        (user({"text": "x"}), "messages.0.content.0"),
        (user({"type": "text"}), "messages.0.content.0.text"),
        (user({"type": "image", "source": {}}), "messages.0.content.0.type"),
        (user({"type": "document", "source": {"type": "base64"}}), "messages.0.content.0.source"),
        (user({"type": "document"}), "messages.0.content.0.source"),
        (user(CALL), "messages.0.content.0.type"),
        (user({"type": "tool_result"}), "messages.0.content.0.tool_use_id"),
        (user({**RESULT, "content": [{"type": "image"}]}), "messages.0.content.0.content.0.type"),
        (assistant(RESULT), "messages.0.content.0.type"),
        (assistant({**CALL, "input": "{}"}), "messages.0.content.0.input"),
        (assistant({**CALL, "name": ""}), "messages.0.content.0.name"),
        (assistant({"type": "thinking"}), "messages.0.content.0.thinking"),
        (assistant({"type": "redacted_thinking"}), "messages.0.content.0.data"),
    ],
)
def test_what_is_wrong_with_a_message_is_named(message: Json, param: str) -> None:
    error = refusal(messages=[message])
    assert error.param == param
    assert param in error.message


def test_system_blocks_are_text() -> None:
    assert refusal(system=[{"type": "image"}]).param == "system.0.type"


def test_a_started_answer_is_continued() -> None:
    body = chat(messages=[user(text("Hi")), assistant(text("Hello, "))])
    assert (body.add_generation_prompt, body.continue_final_message) == (False, True)
    body = chat()
    assert (body.add_generation_prompt, body.continue_final_message) == (True, False)


def test_calls_need_their_results() -> None:
    assert "tool_result" in refusal(messages=[user(text("Hi")), assistant(CALL)]).message


def test_fields_of_an_answer() -> None:
    body = chat(
        temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["END"], stream=True, cache_salt="s",
        metadata={"user_id": "u"}, service_tier="auto",
    )  # fmt: skip
    assert (body.model, body.asked_max_tokens, body.temperature, body.top_p, body.top_k) == ("m", 2000, 0.5, 0.9, 3)
    assert (body.stop, body.stream, body.cache_salt, body.user) == (["END"], True, "s", "u")


def test_tools_are_functions() -> None:
    body = chat(tools=[{**TOOL, "strict": True, "cache_control": {"type": "ephemeral"}}, {**TOOL, "type": "custom"}])
    function = {"name": "add", "description": "adds", "parameters": {"type": "object"}}
    assert dumped(body.tools) == [
        {"type": "function", "function": {**function, "strict": True}},
        {"type": "function", "function": function},
    ]


def dumped(tools: list[Any]) -> list[Any]:
    """Plain objects, whether the chat request holds them as such or as models."""
    return [t if isinstance(t, dict) else t.model_dump(exclude_none=True, exclude_unset=True) for t in tools]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "add"}, {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_choices_of_tools(choice: Json, expected: Any) -> None:
    found = chat(tools=[TOOL], tool_choice=choice).tool_choice
    assert (found if isinstance(found, str | dict) else found.model_dump()) == expected


def test_one_call_at_a_time() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert chat(tools=[TOOL], tool_choice=choice).parallel_tool_calls is False
    assert chat(tools=[TOOL], tool_choice={"type": "auto"}).parallel_tool_calls in (None, True)


def test_no_tools_and_none_to_choose() -> None:
    for fields in ({"tools": []}, {"tool_choice": {"type": "auto"}}, {"tools": [], "tool_choice": {"type": "none"}}):
        body = chat(**fields)
        assert body.tools is None
        assert body.tool_choice in (None, "none")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"name": "add"}]}, "tools.0.input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"vllm_xargs": {"a": 1}}, "vllm_xargs"),
        ({"messages": []}, "messages"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: Json, param: str) -> None:
    assert refusal(**fields).param == param


@pytest.mark.parametrize(
    ("fields", "flag", "effort", "variables"),
    [
        ({}, "auto", None, {}),
        ({"thinking": {"type": "adaptive"}}, "auto", None, {"enable_thinking": True, "thinking": True}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": {"effort": "high"}},
            "none", "high", {"enable_thinking": True, "thinking": True},
        ),
        ({"thinking": {"type": "disabled"}}, "auto", None, {"enable_thinking": False, "thinking": False}),
        ({"thinking": {"type": "disabled"}}, "none", "none", {"enable_thinking": False, "thinking": False}),
        (
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
            "low", "low", {"enable_thinking": True, "thinking": True},
        ),
        (
            {"thinking": {"type": "disabled"}, "chat_template_kwargs": {"enable_thinking": True}},
            "auto", None, {"enable_thinking": True, "thinking": False},
        ),
    ],
)  # fmt: skip
def test_thinking(fields: Json, flag: str, effort: str | None, variables: Json) -> None:
    body = chat(flag, **fields)
    assert body.reasoning_effort == effort
    assert body.chat_template_kwargs == variables


def test_a_schema_for_the_answer() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    asked = chat(output_config={"format": {"type": "json_schema", "schema": schema}}).response_format
    asked = asked if isinstance(asked, dict) else asked.model_dump(by_alias=True, exclude_none=True)
    assert asked["type"] == "json_schema"
    assert schema in (asked["json_schema"].get("schema"), asked["json_schema"].get("json_schema"))


@pytest.mark.parametrize(
    ("chats", "ours"),
    [
        ("stop", "stop_sequences"),
        ("tools.2.function.name", "tools.2.name"),
        ("tools.2.function.parameters.properties", "tools.2.input_schema.properties"),
        ("response_format", "output_config.format.schema"),
        ("response_format.json_schema.schema.properties.a", "output_config.format.schema.properties.a"),
        ("structured_outputs.json", "output_config.format.schema"),
        ("reasoning_effort", "output_config.effort"),
    ],
)
def test_errors_speak_of_the_clients_fields(chats: str, ours: str) -> None:
    error = in_messages_terms(InvalidRequestError(f"{chats} is wrong", param=chats))
    assert (error.param, error.message) == (ours, f"{ours} is wrong")


def test_errors_of_shared_fields_stay_as_they_are() -> None:
    for param in ("temperature", "stop_token_ids", "messages.0.content", "tool_choice", None):
        error = InvalidRequestError("no", param=param)
        assert in_messages_terms(error) is error


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(
    ["text", "image", "document", "tool_use", "tool_result", "tool_reference", "thinking", "redacted_thinking", "other"]
)
KEYS = st.sampled_from(["text", "id", "name", "input", "tool_use_id", "content", "source", "thinking", "data"])
BLOCKS = st.builds(lambda kind, more: {**more, "type": kind}, TYPES, st.dictionaries(KEYS, ANYTHING, max_size=4))
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.lists(BLOCKS | ANYTHING, max_size=3)}
)


@given(st.lists(MESSAGES, min_size=1, max_size=4))
def test_whatever_comes_is_converted_or_refused(messages: list[Json]) -> None:
    before = json.dumps(messages)
    try:
        body = to_chat_request(ConversationFields.model_validate({"model": "m", "messages": messages}), "auto")
    except RequestError:
        body = None
    if body is not None:
        assert all(m["role"] in ("system", "user", "assistant", "tool") for m in body.messages)
        json.dumps(body.messages)
    assert json.dumps(messages) == before
