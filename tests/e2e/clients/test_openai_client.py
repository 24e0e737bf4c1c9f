"""The `openai` package: sync, async, its streaming helper, parsed answers, and the classes of its errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import pytest
from openai import (
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    OpenAI,
    RateLimitError,
)
from pydantic import BaseModel

from support.live_server import live_server
from support.server import MODEL, KvikServer

ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 24,
}
NUMBER = {"type": "integer", "minimum": 0, "maximum": 9}  # the model would never end one by itself
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": NUMBER, "b": NUMBER},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    is_capital: bool


@pytest.fixture
def text(client: OpenAI) -> str:
    """The answer of an ordinary call, which all other ways must give as well."""
    answer = client.chat.completions.create(**ASK)
    assert "Paris" in answer.choices[0].message.content
    return str(answer.choices[0].message.content)


def test_async_and_streams_say_the_same(base_url: str, text: str) -> None:
    async def ask() -> list[str]:
        async with AsyncOpenAI(base_url=f"{base_url}/v1", api_key="none") as client:
            whole = await client.chat.completions.create(**ASK)
            pieces = [
                chunk.choices[0].delta.content or ""
                async for chunk in await client.chat.completions.create(**ASK, stream=True)
            ]
            return [whole.choices[0].message.content or "", "".join(pieces)]

    assert asyncio.run(ask()) == [text, text]


def test_the_streaming_helper(client: OpenAI, text: str) -> None:
    pieces = []
    with client.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream:
        for event in stream:
            if event.type == "content.delta":
                pieces.append(event.delta)
        final = stream.get_final_completion()
    assert "".join(pieces) == text
    assert final.choices[0].message.content == text
    assert final.choices[0].finish_reason in ("stop", "length")
    assert final.usage.completion_tokens > 0


def test_raw_responses_and_ids(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**ASK, extra_headers={"X-Request-Id": "mine"})
    assert raw.headers["x-request-id"] == "mine"
    assert raw.parse().id == "chatcmpl-mine"


def test_models_are_listed_and_found(client: OpenAI) -> None:
    assert [m.id for m in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_errors_are_the_sdks_own(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as bad:
        client.chat.completions.create(**ASK | {"temperature": 9})
    assert bad.value.param == "temperature"
    assert bad.value.code == 400
    assert "temperature" in bad.value.message
    with pytest.raises(BadRequestError):
        client.chat.completions.create(**ASK | {"temperature": 9}, stream=True)
    with pytest.raises(NotFoundError) as unknown:
        client.chat.completions.create(**ASK | {"model": "gpt-4o"})
    assert unknown.value.param == "model"
    with pytest.raises(NotFoundError):
        client.models.retrieve("gpt-4o")


def test_keys_and_a_server_that_closes_or_is_full() -> None:
    async def ask() -> None:
        async with live_server(api_key=("k",)) as live:
            url = f"http://127.0.0.1:{live.port}/v1"
            messages = [{"role": "user", "content": "Hi"}]
            async with AsyncOpenAI(base_url=url, api_key="no", max_retries=0) as client:
                with pytest.raises(AuthenticationError):
                    await client.models.list()
            async with AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
                answer = await client.chat.completions.create(model="tiny", messages=messages)
                assert answer.choices[0].message.content == "Hello"
                live.state.is_draining = True
                with pytest.raises(InternalServerError) as refused:
                    await client.chat.completions.create(model="tiny", messages=messages)
                assert refused.value.status_code == 503
                live.state.is_draining = False
                live.fill_up()
                with pytest.raises(RateLimitError) as full:
                    await client.chat.completions.create(model="tiny", messages=messages, stream=True)
                assert full.value.response.headers["retry-after"]

    asyncio.run(ask())


def test_parsed_answers(structured: KvikServer) -> None:
    with structured.client() as client:
        answer = client.chat.completions.parse(**ASK | {"max_tokens": 200}, response_format=City)
        parsed = answer.choices[0].message.parsed
        assert isinstance(parsed, City)
        with client.chat.completions.stream(**ASK | {"max_tokens": 200}, response_format=City) as stream:
            final = stream.get_final_completion()
    assert final.choices[0].message.parsed == parsed


def test_an_agents_loop_of_three_calls(tool_server: KvikServer) -> None:
    messages: list[Any] = [{"role": "user", "content": "Add 1 and 2, then 3, then 4."}]
    with tool_server.client() as client:
        for _ in range(3):
            ask = ASK | {"messages": messages, "max_tokens": 200, "tools": [TOOL], "tool_choice": "required"}
            said = client.chat.completions.create(**ask, parallel_tool_calls=False).choices[0].message
            (call,) = said.tool_calls
            arguments = json.loads(call.function.arguments)
            result = str(arguments["a"] + arguments["b"])
            messages += [
                said.model_dump(exclude_none=True),
                {"role": "tool", "tool_call_id": call.id, "content": result},
            ]
        last = client.chat.completions.create(**ASK | {"messages": messages, "tools": [TOOL], "tool_choice": "none"})
    assert last.choices[0].message.content is not None
    assert not last.choices[0].message.tool_calls


def test_a_forced_call(tool_server: KvikServer) -> None:
    ask = ASK | {"max_tokens": 200, "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    with tool_server.client() as client:
        call = client.chat.completions.create(**ask).choices[0].message.tool_calls[0]
        with client.chat.completions.stream(**ask) as stream:
            streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert call.function.name == streamed.function.name == "add"
    arguments = json.loads(call.function.arguments)
    assert {type(arguments[key]) for key in ("a", "b")} == {int}
    assert json.loads(streamed.function.arguments) == arguments
