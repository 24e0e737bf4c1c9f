"""Tools through the `openai` client, with a model that is too small to call any unless it must."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from support.server import MODEL, KvikServer

needs_grammars = pytest.mark.skipif(
    importlib.util.find_spec("kvik.grammar") is None, reason="forced calls need the room of grammars"
)
QUESTION = [{"role": "user", "content": "What is the weather in Rome and in Paris?"}]


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    unit: str | None
    days: int


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


TOOLS = [
    tool("get_weather", city={"type": "string", "maxLength": 12}, unit={"enum": ["C", "F"]}),
    tool("get_time", zone={"type": "integer", "minimum": -12, "maximum": 12}),
]


@pytest.fixture(scope="module")
def hermes() -> Iterator[OpenAI]:
    flags = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
    with KvikServer(*flags) as running, running.client() as client:
        yield client


def check(call: Any) -> None:
    arguments = json.loads(call.function.arguments)
    if call.function.name == "get_weather":
        assert arguments.keys() == {"city", "unit"}
        assert arguments["unit"] in ("C", "F")
    else:
        assert call.function.name == "get_time"
        assert -12 <= arguments["zone"] <= 12


@needs_grammars
def test_required(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=1,
        max_tokens=100,
    )  # fmt: skip
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    check(call)


@needs_grammars
@pytest.mark.parametrize("which", ["client", "hermes"])
def test_a_stream_has_the_same_calls(request: pytest.FixtureRequest, which: str) -> None:
    client: OpenAI = request.getfixturevalue(which)
    asked: Any = dict(
        model=MODEL, messages=QUESTION, tools=TOOLS, tool_choice="required", temperature=0, max_tokens=120,
        parallel_tool_calls=False,
    )  # fmt: skip
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls
    with client.chat.completions.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion().choices[0].message.tool_calls
    assert [(c.function.name, c.function.arguments) for c in final] == [
        (c.function.name, c.function.arguments) for c in whole
    ]
    assert kinds.count("tool_calls.function.arguments.delta") > 2
    assert "tool_calls.function.arguments.done" in kinds


@needs_grammars
@pytest.mark.parametrize("which", ["client", "hermes"])
def test_parse_of_a_named_call(request: pytest.FixtureRequest, which: str) -> None:
    client: OpenAI = request.getfixturevalue(which)
    answer = client.chat.completions.parse(
        model=MODEL, messages=QUESTION, tools=[openai.pydantic_function_tool(Weather)], max_tokens=400, temperature=0,
        tool_choice={"type": "function", "function": {"name": "Weather"}},
    )  # fmt: skip
    choice = answer.choices[0]
    assert choice.finish_reason == "stop"
    assert isinstance(choice.message.tool_calls[0].function.parsed_arguments, Weather)


@needs_grammars
def test_an_agents_loop_of_three_calls(client: OpenAI) -> None:
    messages: list[Any] = list(QUESTION)
    for _ in range(3):
        answer = client.chat.completions.create(
            model=MODEL, messages=messages, tools=TOOLS, tool_choice="required", parallel_tool_calls=False,
            temperature=0, max_tokens=120,
        )  # fmt: skip
        message = answer.choices[0].message
        check(message.tool_calls[0])
        messages.append(message)
        messages.append({"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "21 C"})
    last = client.chat.completions.create(
        model=MODEL, messages=messages, tools=TOOLS, tool_choice="none", temperature=0, max_tokens=24
    )
    assert last.choices[0].finish_reason in ("stop", "length")
    assert last.choices[0].message.tool_calls is None


def test_auto_leaves_the_choice_to_the_model(hermes: OpenAI) -> None:
    answer = hermes.chat.completions.create(model=MODEL, messages=QUESTION, tools=TOOLS, temperature=0, max_tokens=16)
    message = answer.choices[0].message
    assert message.content or message.tool_calls
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_auto_needs_flags(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=QUESTION, tools=TOOLS)
    assert refused.value.param == "tool_choice"
    assert "--tool-call-parser" in refused.value.message
