"""/v1/responses through the `openai` client: whole, streamed, stored, chained, in the background."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response, ToolParam
from pydantic import BaseModel

from kvik.config.catalog import serve_flags
from kvik.server import fields
from kvik.server.chat import protocol
from support.response_events import LAST, check_events, checked_events
from support.server import MODEL, KvikServer, eventually

QUESTION = "What is the capital of France?"
ESSAY = "Write a long essay about the sea."
HAS_TOOLS = "tools" not in getattr(protocol, "_CHAT_UNSUPPORTED", ()) and all(
    flag.is_supported for flag in serve_flags() if flag.name == "tool-call-parser"
)
HAS_FORMATS = "response_format" not in fields.GENERATION_UNSUPPORTED
needs_tools = pytest.mark.skipif(not HAS_TOOLS, reason="chat completions have no tools yet")
needs_formats = pytest.mark.skipif(not HAS_FORMATS, reason="chat completions have no response_format yet")


def strict(response: Response) -> Response:
    """The client builds responses without checking them: check every field's type."""
    return Response.model_validate(response.model_dump())


def test_the_capital_of_france_is_paris(client: OpenAI) -> None:
    response = strict(client.responses.create(model=MODEL, input=QUESTION, temperature=0))
    assert "Paris" in response.output_text
    assert response.status == "completed"
    assert response.model == MODEL
    chat = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": QUESTION}], temperature=0)
    assert response.output_text == chat.choices[0].message.content
    assert response.usage is not None
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    assert response.usage.output_tokens == chat.usage.completion_tokens


def test_a_stream_says_the_same_as_a_response_at_once(client: OpenAI) -> None:
    whole = client.responses.create(model=MODEL, input=QUESTION, temperature=0)
    events = list(client.responses.create(model=MODEL, input=QUESTION, temperature=0, stream=True))
    check_events([event.model_dump(exclude_unset=True) for event in events])
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == whole.output_text
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 2
    assert "".join(deltas) == whole.output_text


def test_the_stream_helper_ends_with_the_response(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input=QUESTION, temperature=0) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "Paris" in final.output_text
    assert snapshots[-1] == final.output_text
    with client.responses.stream(response_id=final.id, starting_after=3) as again:
        assert next(iter(again)).sequence_number == 4
        assert again.get_final_response().output_text == final.output_text


def test_bytes_on_the_wire(server: KvikServer) -> None:
    _, text, headers = server.request("POST", "/v1/responses", {"input": "Hi", "stream": True, "max_output_tokens": 3})
    assert headers["content-type"].startswith("text/event-stream")
    assert "[DONE]" not in text
    checked_events(text)


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_cut_by_length_is_incomplete(client: OpenAI, stream: bool) -> None:
    answer = client.responses.create(model=MODEL, input=ESSAY, max_output_tokens=4, stream=stream)
    if stream:
        *_, last = answer
        assert last.type == "response.incomplete"
        answer = last.response
    response = strict(answer)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 4
    assert response.max_output_tokens == 4


def test_a_chain_remembers(client: OpenAI) -> None:
    first = client.responses.create(model=MODEL, input="My name is Ada Lovelace.", temperature=0, max_output_tokens=40)
    second = client.responses.create(
        model=MODEL, input="What is my name?", previous_response_id=first.id, temperature=0, max_output_tokens=40
    )
    assert "Ada" in second.output_text
    by_hand = client.responses.create(
        model=MODEL, temperature=0, max_output_tokens=40,
        input=[
            {"role": "user", "content": "My name is Ada Lovelace."},
            *[item.model_dump() for item in first.output],
            {"role": "user", "content": [{"type": "input_text", "text": "What is my name?"}]},
        ],
    )  # fmt: skip
    assert by_hand.output_text == second.output_text
    assert second.usage.input_tokens == by_hand.usage.input_tokens
    listed = client.responses.input_items.list(second.id, order="asc").data
    assert [item.type for item in listed] == ["message"] * 3


def test_what_is_stored_can_be_retrieved_and_deleted(client: OpenAI) -> None:
    made = client.responses.create(model=MODEL, input="Hi", max_output_tokens=3, metadata={"k": "v"})
    assert client.responses.retrieve(made.id) == made
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError) as found:
        client.responses.retrieve(made.id)
    assert found.value.param == "response_id"
    assert found.value.type == "invalid_request_error"


def test_logprobs_are_those_of_the_text(client: OpenAI) -> None:
    options: dict[str, Any] = {
        "model": MODEL, "input": QUESTION, "temperature": 0, "max_output_tokens": 5, "top_logprobs": 3,
        "include": ["message.output_text.logprobs"],
    }  # fmt: skip
    response = strict(client.responses.create(**options))
    content = response.output[0].content[0]
    assert "".join(entry.token for entry in content.logprobs) == content.text
    assert all(len(entry.top_logprobs) == 3 for entry in content.logprobs)
    *_, last = client.responses.create(**options, stream=True)
    assert last.response.output[0].content[0].logprobs == content.logprobs


def test_the_background_goes_on_alone(client: OpenAI) -> None:
    queued = strict(client.responses.create(model=MODEL, input=QUESTION, temperature=0, background=True))
    assert queued.status == "queued"
    assert eventually(lambda: client.responses.retrieve(queued.id).status == "completed")
    done = client.responses.retrieve(queued.id)
    assert "Paris" in done.output_text
    events = list(client.responses.retrieve(queued.id, stream=True))
    check_events([event.model_dump(exclude_unset=True) for event in events])
    assert events[-1].response == done


def test_cancel_frees_the_engine(server: KvikServer, client: OpenAI) -> None:
    running = client.responses.create(
        model=MODEL, input=ESSAY, background=True, stream=True, extra_body={"ignore_eos": True}
    )
    name = next(event.response.id for event in running if event.type == "response.in_progress")
    running.close()
    assert server.metric("vllm:num_requests_running") <= 1
    cancelled = strict(client.responses.cancel(name))
    assert cancelled.status == "cancelled"
    assert eventually(lambda: client.responses.retrieve(name).status == "cancelled")
    assert eventually(lambda: server.metric("vllm:num_requests_running") == 0)
    assert client.responses.cancel(name) == cancelled


def test_a_follower_gets_what_was_and_what_comes(client: OpenAI) -> None:
    first = client.responses.create(model=MODEL, input=ESSAY, background=True, stream=True, max_output_tokens=40)
    seen = [next(first) for _ in range(8)]
    first.close()
    rest = list(client.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number))
    check_events([event.model_dump(exclude_unset=True) for event in [*seen, *rest]])
    assert rest[-1].response.usage.output_tokens == 40


def test_async_clients(server: KvikServer) -> None:
    async def scenario() -> None:
        async with AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="x", max_retries=0) as client:
            options: Any = {"model": MODEL, "input": QUESTION, "temperature": 0}
            whole = await client.responses.create(**options)
            events = [event async for event in await client.responses.create(**options, stream=True)]
            async with client.responses.stream(**options) as stream:
                final = await stream.get_final_response()
            assert whole.output_text == events[-1].response.output_text == final.output_text
            again = await client.responses.retrieve(whole.id)
            assert again == whole

    asyncio.run(scenario())


def test_truncation_drops_the_oldest(client: OpenAI) -> None:
    turns: Any = [{"role": "user", "content": f"{i} " + "sea " * 2000} for i in range(8)]
    with pytest.raises(openai.BadRequestError) as found:
        client.responses.create(model=MODEL, input=turns)
    assert found.value.param == "input"
    room, end_of_turn = 7600, 2
    turns = [{"role": "user", "content": f"{i} " + "sea " * 150} for i in range(8)]
    kept = client.responses.create(
        model=MODEL, input=turns, max_output_tokens=room, truncation="auto",
        extra_body={"logit_bias": {str(end_of_turn): 100}},
    )  # fmt: skip
    assert 8192 - room - 160 < kept.usage.input_tokens <= 8192 - room
    assert len(client.responses.input_items.list(kept.id).data) == 8


def test_errors_are_those_of_the_client(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as found:
        client.responses.create(model=MODEL, input="Hi", temperature=3)
    assert found.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model=MODEL, input="Hi", previous_response_id="resp_x", stream=True)
    assert unknown.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError) as builtin:
        client.responses.create(model=MODEL, input="Hi", tools=[{"type": "web_search"}])
    assert "web_search" in builtin.value.message


def test_the_servers_end_is_the_end_of_what_runs_in_the_background() -> None:
    with KvikServer("--shutdown-timeout", "0") as server, server.client() as client:
        events = client.responses.create(model=MODEL, input=ESSAY, background=True, stream=True)
        for event in events:
            if event.type == "response.output_text.delta" and server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
                break
        *_, last = events
        assert last.type == "response.failed"
        assert last.response.error.code == "server_error"
        assert server.process.wait(20) == 0
    assert "Traceback" not in server.log


def test_every_last_event_is_known_to_the_client() -> None:
    kinds = {"completed", "incomplete", "failed"}
    assert {f"response.{kind}" for kind in kinds} == LAST


# --- with tools and formats ----------------------------------------------------------------------------


class City(BaseModel):
    name: str
    population: int


ADD: ToolParam = {
    "type": "function",
    "name": "add",
    "description": "Adds two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "strict": True,
}


@needs_formats
def test_parse_gives_an_object_of_the_schema(client: OpenAI) -> None:
    parsed = client.responses.parse(model=MODEL, input="Name a city.", text_format=City, temperature=0)
    assert isinstance(parsed.output_parsed, City)
    with client.responses.stream(model=MODEL, input="Name a city.", text_format=City, temperature=0) as stream:
        assert stream.get_final_response().output_parsed == parsed.output_parsed


@needs_formats
def test_a_bad_schema_is_refused_before_a_stream(client: OpenAI) -> None:
    text: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=MODEL, input="Hi", text=text, stream=True)


@pytest.fixture(scope="module")
def tool_client() -> Iterator[OpenAI]:
    """A server that reads calls of tools."""
    flags = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    with KvikServer(*flags) as running, running.client() as client:
        yield client


@needs_tools
def test_an_agents_loop_of_three_calls(tool_client: OpenAI) -> None:
    options: Any = {"model": MODEL, "tools": [ADD], "temperature": 0, "max_output_tokens": 60}
    content: Any = "Add 1 and 2, then add 3 to that, then add 4."
    previous = None
    for _ in range(3):
        response = tool_client.responses.create(
            **options, input=content, previous_response_id=previous, tool_choice={"type": "function", "name": "add"}
        )
        [call] = [item for item in strict(response).output if item.type == "function_call"]
        arguments = json.loads(call.arguments)
        assert (call.name, call.status, sorted(arguments)) == ("add", "completed", ["a", "b"])
        total = str(arguments["a"] + arguments["b"])
        content = [{"type": "function_call_output", "call_id": call.call_id, "output": total}]
        previous = response.id
    answer = tool_client.responses.create(**options, input=content, previous_response_id=previous, tool_choice="none")
    assert strict(answer).output_text
    items = tool_client.responses.input_items.list(answer.id, order="asc").data
    assert [item.type for item in items] == ["message"] + ["function_call", "function_call_output"] * 3


@needs_tools
def test_a_streamed_call(tool_client: OpenAI) -> None:
    events = list(
        tool_client.responses.create(
            model=MODEL, input="What is 3 plus 4?", tools=[ADD], tool_choice={"type": "function", "name": "add"},
            temperature=0, stream=True,
        )
    )  # fmt: skip
    check_events([event.model_dump(exclude_unset=True) for event in events])
    assert [item.type for item in events[-1].response.output] == ["function_call"]
