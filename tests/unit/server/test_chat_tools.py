"""Tools and reasoning in chat completions: what is asked of the engine, whole answers and streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import llguidance
import pytest

from kvik.errors import ConfigError
from kvik.server.chat.call_grammar import arguments_grammar, call_grammar, closed
from kvik.server.chat.tools import Tool
from kvik.text.parsing.forced import LIST_MARKUP
from kvik.text.parsing.formats import TOOL_FORMATS
from kvik.text.parsing.reasoning import REASONING
from support.server_without_engine import Script, Server, events_of

MakeServer = Callable[..., Server]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "time"}},
]
NAMED = {"type": "function", "function": {"name": "time"}}
HERMES = {"enable_auto_tool_choice": True, "tool_call_parser": "hermes"}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def say(server: Server, *pieces: str, **more: Any) -> Server:
    server.llm.script = Script(pieces=pieces, **more)
    return server


def choice(server: Server, **fields: Any) -> Any:
    answer = server.chat(**fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def chunks(server: Server, **fields: Any) -> list[Any]:
    answer = server.chat(stream=True, **fields)
    assert answer.status_code == 200, answer.text
    events = events_of(answer.text)
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def deltas(server: Server, **fields: Any) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(server, **fields)]


def refusal(server: Server, **fields: Any) -> Any:
    answer = server.chat(**fields)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


def test_a_call_of_the_models_own(serve: MakeServer) -> None:
    server = say(serve(**HERMES), "Let me see.\n\n", CALL)
    found = choice(server, tools=TOOLS)
    (call,) = found["message"]["tool_calls"]
    assert call["id"].startswith("chatcmpl-tool-")
    assert len(call["id"]) == len("chatcmpl-tool-") + 16
    assert call["type"] == "function"
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Rome"}'}
    assert found["message"]["content"] == "Let me see."
    assert found["finish_reason"] == "tool_calls"
    assert server.llm.asked[0].wanted.structured_outputs is None


def test_a_stream_of_a_call(serve: MakeServer) -> None:
    server = say(serve(**HERMES), *CALL)
    found = chunks(server, tools=TOOLS)
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    first, *rest = [chunk["choices"][0] for chunk in found[1:]]
    head = first["delta"]["tool_calls"][0]
    assert first["delta"]["content"] is None
    assert head.keys() == {"id", "type", "index", "function"}
    assert (head["index"], head["function"]) == (0, {"name": "weather"})
    pieces = [c["delta"]["tool_calls"][0] for c in rest[:-1]]
    assert all(piece.keys() == {"index", "function"} for piece in pieces)
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"city": "Rome"}'
    assert len(pieces) > 5
    last = rest[-1]
    assert (last["delta"], last["finish_reason"], last["stop_reason"]) == ({}, "tool_calls", None)


def test_content_alone_with_tools_there(serve: MakeServer) -> None:
    server = say(serve(**HERMES), "Hi <b", "> you")
    assert choice(server, tools=TOOLS)["message"]["content"] == "Hi <b> you"
    assert "tool_calls" not in choice(server, tools=TOOLS)["message"]
    assert "".join(d.get("content") or "" for d in deltas(server, tools=TOOLS)) == "Hi <b> you"


def test_none_is_not_searched(serve: MakeServer) -> None:
    found = choice(say(serve(**HERMES), CALL), tools=TOOLS, tool_choice="none")
    assert found["message"]["content"] == CALL
    assert found["finish_reason"] == "stop"


def test_a_cut_answer_stays_cut(serve: MakeServer) -> None:
    server = say(serve(**HERMES), CALL[:50], finish_reason="length")
    assert choice(server, tools=TOOLS)["finish_reason"] == "length"


def test_only_the_first_call_where_they_may_not_be_parallel(serve: MakeServer) -> None:
    server = say(serve(**HERMES), CALL + CALL)
    assert len(choice(server, tools=TOOLS)["message"]["tool_calls"]) == 2
    assert len(choice(server, tools=TOOLS, parallel_tool_calls=False)["message"]["tool_calls"]) == 1


def test_required_works_without_a_parser(server: Server) -> None:
    say(server, '[{"name": "time", ', '"arguments": {}}]')
    found = choice(server, tools=TOOLS, tool_choice="required")
    assert found["message"]["content"] is None
    assert found["message"]["tool_calls"][0]["function"] == {"name": "time", "arguments": "{}"}
    assert found["finish_reason"] == "tool_calls"
    asked = server.llm.asked[0].wanted.structured_outputs
    assert asked.grammar is not None
    assert '"city"' in asked.grammar
    assert asked.param == "tools"


def test_a_forced_answer_that_was_cut_has_no_markup_of_calls(serve: MakeServer) -> None:
    call = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
    server = say(serve(**HERMES), call, '\n<tool_call>\n{"na', finish_reason="length")
    found = choice(server, tools=TOOLS, tool_choice="required")
    assert found["message"]["content"] is None
    assert [c["function"]["name"] for c in found["message"]["tool_calls"]] == ["time"]
    assert not [d for d in deltas(server, tools=TOOLS, tool_choice="required") if d.get("content")]


def test_a_named_call_keeps_stop(server: Server) -> None:
    say(server, '{"a": ', "1}")
    found = choice(server, tools=TOOLS, tool_choice=NAMED)
    assert found["message"]["tool_calls"][0]["function"] == {"name": "time", "arguments": '{"a": 1}'}
    assert found["finish_reason"] == "stop"
    streamed = deltas(server, tools=TOOLS, tool_choice=NAMED)
    assert [d["tool_calls"][0]["function"] for d in streamed if "tool_calls" in d] == [
        {"name": "time"}, {"arguments": '{"a": '}, {"arguments": "1}"},
    ]  # fmt: skip


def test_tools_reach_the_template(serve: MakeServer) -> None:
    template = "{{ tools | tojson if tools else 'no tools' }}"
    for flags, fields, expected in (
        ({}, {"tool_choice": "none"}, True),
        ({"exclude_tools_when_tool_choice_none": True}, {"tool_choice": "none"}, False),
        ({"exclude_tools_when_tool_choice_none": True}, {"tool_choice": "required"}, True),
    ):
        server = serve(trust_request_chat_template=True, **flags)
        choice(server, tools=[TOOLS[1]], chat_template=template, **fields)
        assert ("time" in server.llm.asked[0].prompt) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": TOOLS}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "auto"}, "tool_choice"),
        ({"tools": []}, "tools"),
        ({"tools": [TOOLS[0], TOOLS[0]], "tool_choice": "none"}, "tools.1.function.name"),
        ({"tools": TOOLS * 600, "tool_choice": "none"}, "tools"),
        ({"tools": [{"type": "web"}], "tool_choice": "none"}, "tools.0"),
        ({"tools": [{"function": 1}], "tool_choice": "none"}, "tools.0.function"),
        ({"tools": [{"function": {"name": "a b"}}], "tool_choice": "none"}, "tools.0.function.name"),
        ({"tools": [{"function": {"name": "a", "strict": 1}}], "tool_choice": "none"}, "tools.0.function.strict"),
        ({"tools": [{"function": {"name": "a", "parameters": {"type": "array"}}}], "tool_choice": "none"},
         "tools.0.function.parameters"),
        ({"tools": [{"function": {"name": "a", "parameters": {"x": "y" * 70000}}}], "tool_choice": "none"},
         "tools.0.function.parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(server: Server, fields: dict[str, Any], param: str) -> None:
    assert refusal(server, **fields)["param"] == param


def test_allowed_tools(server: Server) -> None:
    say(server, "[]")
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}
    choice(server, tools=TOOLS, tool_choice=allowed)
    assert "weather" not in server.llm.asked[0].wanted.structured_outputs.grammar


def test_reasoning(serve: MakeServer) -> None:
    server = say(serve(reasoning_parser="qwen3"), "<think>h", "m</think>", "so")
    body = server.chat().json()
    message = body["choices"][0]["message"]
    assert (message["reasoning"], message["reasoning_content"], message["content"]) == ("hm", "hm", "so")
    assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert deltas(server)[1:] == [
        {"reasoning": "h", "reasoning_content": "h"}, {"reasoning": "m", "reasoning_content": "m"}, {"content": "so"},
    ]  # fmt: skip
    last = chunks(server, stream_options={"include_usage": True})[-1]
    assert last["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}


def test_reasoning_that_nobody_wants_to_see(serve: MakeServer) -> None:
    server = say(serve(reasoning_parser="deepseek_r1"), "hm", "</think>", "so")
    message = choice(server, include_reasoning=False)["message"]
    assert (message["reasoning"], message["content"]) == (None, "so")
    found = chunks(server, include_reasoning=False, logprobs=True, return_token_ids=True)
    assert "hm" not in json.dumps(found)
    assert [c["choices"][0].get("token_ids") for c in found[1:]] == [[]]


def test_where_the_answer_begins_is_seen_from_the_prompt(serve: MakeServer) -> None:
    server = say(serve(reasoning_parser="qwen3", trust_request_chat_template=True), "hm</think>so")
    assert choice(server, chat_template="<think>\n")["message"]["reasoning"] == "hm"
    assert choice(server, chat_template="<think></think>\n")["message"]["content"] == "hm</think>so"
    assert choice(server, chat_template="x")["message"]["content"] == "hm</think>so"


def test_tokens_and_logprobs_are_told_once_each(serve: MakeServer) -> None:
    text = "<think>hm</think>ok " + CALL
    server = say(serve(reasoning_parser="qwen3", **HERMES), *(text[i : i + 5] for i in range(0, len(text), 5)))
    found = [c["choices"][0] for c in chunks(server, tools=TOOLS, logprobs=True, return_token_ids=True)[1:]]
    assert bytes(i for c in found for i in c["token_ids"]).decode() == text
    assert sum(len(c["logprobs"]["content"]) for c in found if c["logprobs"]) == len(text)


def test_special_tokens_stay_in_the_text_where_a_format_has_them(serve: MakeServer) -> None:
    server = serve(enable_auto_tool_choice=True, tool_call_parser="granite")
    tokenizer = server.llm.tokenizer
    tokenizer.special_tokens = {"</s>": 257, "<|tool_call|>": 256}  # type: ignore[misc]
    say(server, '<|tool_call|>[{"name": "time", "arguments": {}}]', "</s>")
    found = choice(server, tools=TOOLS)
    assert not server.llm.asked[0].params.skip_special_tokens
    assert found["message"]["content"] is None
    assert found["message"]["tool_calls"][0]["function"]["name"] == "time"
    assert choice(server)["message"]["content"] != ""
    assert server.llm.asked[1].params.skip_special_tokens


def test_flags_of_parsers_that_are_not_there(serve: MakeServer) -> None:
    with pytest.raises(ConfigError, match=r"--tool-call-parser nix.*hermes.*pythonic"):
        serve(tool_call_parser="nix")
    with pytest.raises(ConfigError, match=r"--reasoning-parser nix.*deepseek_r1"):
        serve(reasoning_parser="nix")
    with pytest.raises(ConfigError, match="--tool-parser-plugin"):
        serve(tool_parser_plugin="/nowhere.py", tool_call_parser="mine")


def test_a_plug_in(serve: MakeServer, tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from kvik.text.parsing.formats import TOOL_FORMATS\n"
        "from kvik.text.parsing.reasoning import ReasoningFormat\n"
        "TOOL_PARSERS = {'mine': TOOL_FORMATS['hermes']}\n"
        "REASONING_PARSERS = {'mine': ReasoningFormat(('<hm>',), ('</hm>',))}\n"
    )
    flags = {"enable_auto_tool_choice": True, "tool_call_parser": "mine", "tool_parser_plugin": str(file)}
    server = serve(reasoning_parser="mine", reasoning_parser_plugin=str(file), **flags)
    message = choice(say(server, "<hm>1</hm>" + CALL), tools=TOOLS)["message"]
    assert message["reasoning"] == "1"
    assert message["tool_calls"][0]["function"]["name"] == "weather"
    file.write_text("TOOL_PARSERS = {'mine': 3}\n1 / 0")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        serve(tool_parser_plugin=str(file), tool_call_parser="other")


TWO = [Tool("weather", SCHEMA, False), Tool("time", {"type": "object", "properties": {}}, False)]
MARKUPS = {"list": LIST_MARKUP} | {n: f.markup for n, f in TOOL_FORMATS.items() if f.markup is not None}


@pytest.mark.parametrize("name", MARKUPS)
@pytest.mark.parametrize("reasoning", [None, *{id(r): r for r in REASONING.values()}.values()])
def test_forced_calls_are_grammars(name: str, reasoning: Any) -> None:
    markup = MARKUPS[name]
    for is_parallel in (True, False):
        for special in ({}, {"<|tool_call|>": 7, "[TOOL_CALLS]": 8, "</think>": 9}):
            checked(call_grammar(markup, TWO, is_parallel, special, reasoning))
    checked(arguments_grammar(TWO[0], {}, reasoning))


def checked(grammar: str) -> None:
    error = llguidance.LLMatcher.validate_grammar(llguidance.LLMatcher.grammar_from_lark(grammar))
    assert not error, f"{error}\n{grammar}"


def test_arguments_have_the_listed_properties_only() -> None:
    inner = {"type": "object", "properties": {}}
    schema = {"properties": {"a": inner, "b": {"items": inner}}, "$defs": {"c": {"$ref": "#"}}}
    found = closed(schema)
    assert found["additionalProperties"] is found["properties"]["a"]["additionalProperties"] is False
    assert found["properties"]["b"]["items"]["additionalProperties"] is False
    assert found["$defs"] == schema["$defs"]
    assert "additionalProperties" not in inner
    assert closed({"properties": {}, "additionalProperties": True})["additionalProperties"] is True


def test_calls_of_the_models_own_can_be_strict(serve: MakeServer) -> None:
    strict = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}
    for level, tools, schemas in (
        ("auto", [strict, TOOLS[1]], [closed(SCHEMA), {"type": "object"}]),
        ("function", TOOLS, [{"type": "object"}, {"type": "object"}]),
        ("parameter", [TOOLS[0]], [closed(SCHEMA)]),
    ):
        server = say(serve(tool_strict_level=level, **HERMES), "Hi")
        choice(server, tools=tools)
        tag = json.loads(server.llm.asked[0].wanted.structured_outputs.structural_tag)
        assert tag["triggers"] == ["<tool_call>"]
        assert [s["schema"] for s in tag["structures"]] == schemas
        assert tag["structures"][0]["begin"] == '<tool_call>\n{"name": "weather", "arguments": '
    with pytest.raises(ConfigError, match="--tool-strict-level function"):
        serve(tool_strict_level="function", enable_auto_tool_choice=True, tool_call_parser="pythonic")


def test_tokenize_counts_tools(serve: MakeServer) -> None:
    server = serve(trust_request_chat_template=True)
    asked = {"messages": [{"role": "user", "content": "x"}], "chat_template": "{{ tools | tojson }}", "tools": TOOLS}
    assert server.http.post("/tokenize", json=asked).json()["count"] > 50
    assert server.http.post("/tokenize", json=asked | {"tools": [{}]}).status_code == 400
