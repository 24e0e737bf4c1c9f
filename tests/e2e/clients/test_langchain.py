"""`langchain-openai`: invoke, stream, batch; tools and structured output where the server has them."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from support.server import MODEL, KvikServer

QUESTION = "What is the capital of France?"


class City(BaseModel):
    """A city of the world."""

    model_config = ConfigDict(extra="forbid")  # else the model adds fields without end

    name: Literal["Paris", "Rome"]
    is_capital: bool


def chat_of(server: KvikServer, **options: Any) -> Any:
    from langchain_openai import ChatOpenAI

    url = f"http://127.0.0.1:{server.port}/v1"
    settings = {"model": MODEL, "base_url": url, "api_key": "none", "temperature": 0, "max_tokens": 24}
    return ChatOpenAI(**settings | options)


@pytest.fixture
def chat(server: KvikServer) -> Any:
    return chat_of(server, stream_usage=True)


def test_invoke_stream_and_batch_say_the_same(chat: Any) -> None:
    asked = [("human", QUESTION)]
    answer = chat.invoke(asked)
    assert "Paris" in answer.content
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    chunks = list(chat.stream(asked))
    assert "".join(c.content for c in chunks) == answer.content
    usages = [c.usage_metadata for c in chunks if c.usage_metadata]
    assert usages[-1]["output_tokens"] == answer.usage_metadata["output_tokens"]
    assert [a.content for a in chat.batch([asked, asked])] == [answer.content] * 2
    assert asyncio.run(chat.ainvoke(asked)).content == answer.content


def test_structured_output(structured: KvikServer) -> None:
    for method in ("json_schema", "json_mode"):
        runnable = chat_of(structured, max_tokens=200).with_structured_output(City, method=method, include_raw=True)
        answer = runnable.invoke(f"{QUESTION} Answer as JSON.")
        assert answer["raw"].content.strip().startswith("{")
    assert isinstance(chat_of(structured, max_tokens=200).with_structured_output(City).invoke(QUESTION), City)


def test_tools(tool_server: KvikServer) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    @tool
    def add(a: Literal[1, 2], b: Literal[1, 2]) -> int:
        """Add two numbers."""
        return a + b

    chat = chat_of(tool_server, max_tokens=200)
    asked = HumanMessage("What is 1 + 2?")
    answer = chat.bind_tools([add], tool_choice="required").invoke([asked])
    call = answer.tool_calls[0]
    assert call["name"] == "add"
    assert isinstance(add.invoke(call["args"]), int)
    streamed = None
    for chunk in chat.bind_tools([add], tool_choice="add").stream([asked]):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    assert streamed.tool_calls[0]["args"] == call["args"]
    after = chat.bind_tools([add]).invoke([asked, answer, ToolMessage("3", tool_call_id=call["id"])])
    assert after.content is not None


def test_structured_output_by_a_call(tool_server: KvikServer) -> None:
    runnable = chat_of(tool_server, max_tokens=200).with_structured_output(City, method="function_calling")
    assert isinstance(runnable.invoke(QUESTION), City)
