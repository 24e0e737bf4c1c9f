"""The `anthropic` package: sync, async, its streaming helper, counting, parsed answers, and the classes of its errors.

Its newest versions know no `temperature`: who wants one puts it into `extra_body`.
"""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from fakes.marked_parser import MarkedParser, with_parser
from kvik.server.messages_api import serving
from support.live_server import live_server
from support.server import MODEL, KvikServer
from support.server_without_engine import Script

ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 24,
    "extra_body": {"temperature": 0},
}
NUMBER = {"type": "integer", "minimum": 0, "maximum": 9}  # the model would never end one by itself
TOOL = {
    "name": "add",
    "description": "Add two numbers.",
    "input_schema": {
        "type": "object",
        "properties": {"a": NUMBER, "b": NUMBER},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}

ONE_CALL = {"type": "any", "disable_parallel_tool_use": True}


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    is_capital: bool


@pytest.fixture(scope="module")
def anthropic() -> ModuleType:
    import anthropic

    return anthropic


def client_of(anthropic: ModuleType, server: KvikServer) -> Any:
    url = f"http://127.0.0.1:{server.port}"
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=60)


@pytest.fixture
def messages(anthropic: ModuleType, server: KvikServer) -> Any:
    with client_of(anthropic, server) as client:
        yield client.messages


@pytest.fixture
def text(messages: Any) -> str:
    """The answer of an ordinary call, which all other ways must give as well."""
    answer = messages.create(**ASK)
    assert "Paris" in answer.content[0].text
    return str(answer.content[0].text)


def test_an_answer(messages: Any) -> None:
    answer = messages.create(**ASK)
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", MODEL)
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 1
    assert answer._request_id, "for a report of what went wrong"
    told = messages.create(**ASK | {"max_tokens": 2}, system=[{"type": "text", "text": "You are brief."}])
    assert (told.stop_reason, told.usage.output_tokens) == ("max_tokens", 2)


def test_it_says_what_chat_says(text: str, server: KvikServer) -> None:
    with server.client() as chat:
        assert chat.chat.completions.create(**ASK).choices[0].message.content == text


def test_streams_say_the_same(messages: Any, text: str) -> None:
    events = list(messages.create(**ASK, stream=True))
    assert [e.type for e in events if e.type != "content_block_delta"] == [
        "message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert "".join(e.delta.text for e in events if e.type == "content_block_delta") == text


def test_the_streaming_helper(messages: Any, text: str) -> None:
    whole = messages.create(**ASK)
    with messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == text
        final = stream.get_final_message()
    assert [block.text for block in final.content] == [block.text for block in whole.content]
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    usage = final.usage
    assert (
        usage.input_tokens + usage.cache_read_input_tokens
        == messages.count_tokens(model=MODEL, messages=ASK["messages"]).input_tokens
    )


def test_async(anthropic: ModuleType, base_url: str, text: str) -> None:
    async def ask() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=base_url, auth_token="none") as client:
            whole = await client.messages.create(**ASK)
            async with client.messages.stream(**ASK) as stream:
                return [whole.content[0].text, await stream.get_final_text()]

    assert asyncio.run(ask()) == [text, text]


def test_a_stop_sequence_is_told(messages: Any) -> None:
    answer = messages.create(**ASK, stop_sequences=["Paris"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "Paris")
    assert "Paris" not in answer.content[0].text


def test_a_begun_answer_is_continued(messages: Any, text: str) -> None:
    begun, rest = text[: text.index("Paris")].rstrip(), text[text.index("Paris") :]
    asked = [*ASK["messages"], {"role": "assistant", "content": begun}]
    assert messages.create(**ASK | {"messages": asked}).content[0].text.lstrip().startswith(rest[:5])


def test_errors_are_the_sdks_own(anthropic: ModuleType, messages: Any) -> None:
    with pytest.raises(anthropic.BadRequestError, match="temperature must be") as bad:
        messages.create(**ASK | {"extra_body": {"temperature": 9}})
    assert bad.value.body["error"]["type"] == "invalid_request_error"
    assert bad.value.request_id
    with pytest.raises(anthropic.BadRequestError, match=r"body\.max_tokens"):
        messages.create(**ASK | {"max_tokens": 0})
    with pytest.raises(anthropic.NotFoundError, match="served here"):
        messages.create(**ASK | {"model": "claude"}, stream=True)
    picture = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x.png"}}
    with pytest.raises(anthropic.BadRequestError, match="image"):
        messages.create(**ASK | {"messages": [{"role": "user", "content": [picture]}]})


def test_keys_and_a_server_that_closes_or_is_full(anthropic: ModuleType) -> None:
    async def ask() -> None:
        async with live_server(api_key=("k",)) as live:
            url = f"http://127.0.0.1:{live.port}"
            body = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
            async with anthropic.AsyncAnthropic(base_url=url, api_key="no", max_retries=0) as client:
                with pytest.raises(anthropic.AuthenticationError):
                    await client.messages.create(**body)
            async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
                assert (await client.messages.create(**body)).content[0].text == "Hello"
                live.state.is_draining = True
                with pytest.raises(anthropic.InternalServerError) as refused:
                    await client.messages.create(**body)
                live.state.is_draining = False
                assert refused.value.status_code == 503
                assert refused.value.body["error"]["type"] == "overloaded_error"
                live.fill_up()
                with pytest.raises(anthropic.RateLimitError) as full:
                    await client.messages.create(**body)
                assert full.value.body["error"]["type"] == "rate_limit_error"

    asyncio.run(ask())


def test_the_sdk_adds_up_thoughts_text_and_calls(anthropic: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "prepare_chat", with_parser(serving.prepare_chat, MarkedParser))

    async def ask() -> None:
        async with live_server() as live:
            live.llm.script = Script(pieces=("(So.)", "Adding.", '{"a": [1, "é"]}'))
            url = f"http://127.0.0.1:{live.port}"
            asked = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
            async with (
                anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client,
                client.messages.stream(**asked) as stream,
            ):
                message = await stream.get_final_message()
            assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
            thought, text, call = message.content
            assert (thought.thinking, text.text, call.input) == ("So.", "Adding.", {"a": [1, "é"]})
            assert thought.signature
            assert message.stop_reason == "tool_use"

    asyncio.run(ask())


def test_the_beta_client_and_the_list_of_models(anthropic: ModuleType, server: KvikServer, text: str) -> None:
    with client_of(anthropic, server) as client:
        answer = client.beta.messages.create(**ASK, betas=["context-management-2025-06-27"])
        assert answer.content[0].text == text
        assert [model.id for model in client.models.list()] == [MODEL]


def test_parsed_answers(anthropic: ModuleType, structured: KvikServer) -> None:
    with client_of(anthropic, structured) as client:
        answer = client.messages.parse(**ASK | {"max_tokens": 200}, output_format=City)
    assert isinstance(answer.parsed_output, City)


def test_a_forced_call_and_its_result(anthropic: ModuleType, tool_server: KvikServer) -> None:
    ask = ASK | {"max_tokens": 200, "tools": [TOOL], "tool_choice": ONE_CALL}
    with client_of(anthropic, tool_server) as client:
        answer = client.messages.create(**ask)
        with client.messages.stream(**ask) as stream:
            streamed = stream.get_final_message()
        call = answer.content[-1]
        assert (answer.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "add")
        assert {type(call.input[key]) for key in ("a", "b")} == {int}
        assert streamed.content[-1].input == call.input
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "3"}
        turns = [*ASK["messages"], answer.to_param(), {"role": "user", "content": [result]}]
        after = client.messages.create(**ASK | {"messages": turns, "tools": [TOOL], "tool_choice": {"type": "none"}})
    assert after.stop_reason in ("end_turn", "max_tokens")
