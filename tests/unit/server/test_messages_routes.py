"""The Messages routes over a server without an engine: answers, streams, errors in Anthropic's shape, keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fakes.marked_parser import MarkedParser, with_parser
from kvik.errors import EngineDeadError, EngineRequestError
from kvik.server.errors import ErrorInfo
from kvik.server.messages_api import serving
from kvik.server.messages_api.errors import error_body, speaks_messages
from support.server_without_engine import Script, Server

MakeServer = Callable[..., Server]
BODY = {"model": "tiny", "max_tokens": 20, "messages": [{"role": "user", "content": "Hi"}]}


def post(server: Server, path: str = "/v1/messages", **fields: Any) -> Any:
    return server.http.post(path, json=BODY | {"request_id": "r1"} | fields)


def events(server: Server, **fields: Any) -> list[dict[str, Any]]:
    """The data of a stream's events; each has its type as its name."""
    answer = post(server, stream=True, **fields)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = []
    for lines in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = lines.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


@pytest.fixture
def marked_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of the server writes the format of `MarkedParser`."""
    monkeypatch.setattr(serving, "prepare_chat", with_parser(serving.prepare_chat, MarkedParser))


def test_an_answer(server: Server) -> None:
    assert post(server).json() == {
        "id": "chatcmpl-r1",
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 19, "output_tokens": 5},
    }
    asked = server.llm.asked[0]
    assert asked.prompt == "<user>Hi<assistant>"
    assert asked.params.max_tokens == 20


def test_a_stream(server: Server) -> None:
    assert events(server) == [
        {
            "type": "message_start",
            "message": {
                "id": "chatcmpl-r1", "type": "message", "role": "assistant", "model": "tiny", "content": [],
                "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 19, "output_tokens": 0},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": 19, "output_tokens": 5},
        },
        {"type": "message_stop"},
    ]  # fmt: skip


def test_a_stream_of_thoughts_text_and_calls(server: Server, marked_format: None) -> None:
    server.llm.script = Script(pieces=("(So.)", "Adding.", '{"a": 1}'))
    found = events(server)
    kinds = [e.get("content_block", e.get("delta", {})).get("type") or e["type"] for e in found]
    assert kinds == [
        "message_start",
        "thinking", "thinking_delta", "signature_delta", "content_block_stop",
        "text", "text_delta", "content_block_stop",
        "tool_use", "input_json_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert [e["index"] for e in found if "index" in e] == [0] * 4 + [1] * 3 + [2] * 3
    assert found[9]["delta"]["partial_json"] == '{"a": 1}'
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_whole_answer_with_a_call(server: Server, marked_format: None) -> None:
    server.llm.script = Script(pieces=('{"a": 1}',))
    body = post(server).json()
    call_id = body["content"][0].pop("id")
    assert call_id.startswith("toolu_")
    assert body["content"] == [{"type": "tool_use", "name": "add", "input": {"a": 1}}]
    assert body["stop_reason"] == "tool_use"


def test_thoughts_that_are_not_wanted_are_left_out(server: Server, marked_format: None) -> None:
    server.llm.script = Script(pieces=("(So.)",))
    body = post(server, thinking={"type": "adaptive", "display": "omitted"}).json()
    assert body["content"][0]["thinking"] == ""


@pytest.mark.parametrize(
    ("finish", "stop", "reason", "sequence"),
    [
        ("stop", None, "end_turn", None),
        ("stop", 7, "end_turn", None),
        ("stop", "END", "stop_sequence", "END"),
        ("length", None, "max_tokens", None),
        ("abort", None, "pause_turn", None),
        ("repetition", "repetition_detected", "end_turn", None),
    ],
)
def test_why_it_stopped(server: Server, finish: str, stop: Any, reason: str, sequence: str | None) -> None:
    server.llm.script = Script(finish_reason=finish, stop_reason=stop)
    body = post(server).json()
    assert (body["stop_reason"], body.get("stop_sequence")) == (reason, sequence)
    assert events(server)[-2]["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


def test_an_empty_answer_has_an_empty_text(server: Server) -> None:
    server.llm.script = Script(pieces=("",))
    assert post(server).json()["content"] == [{"type": "text", "text": ""}]
    assert [e["type"] for e in events(server)][1:3] == ["content_block_start", "content_block_stop"]


def test_cached_tokens_are_told_where_details_are(serve: MakeServer) -> None:
    server = serve(enable_prompt_tokens_details=True)
    server.llm.script = Script(num_cached_tokens=16)
    expected = {"input_tokens": 3, "cache_read_input_tokens": 16, "output_tokens": 5}
    assert post(server).json()["usage"] == expected
    assert events(server)[-2]["usage"] == expected


def test_a_begun_answer_goes_on(server: Server) -> None:
    messages = [*BODY["messages"], {"role": "assistant", "content": "Well"}]  # type: ignore[misc]
    assert post(server, messages=messages).status_code == 200
    assert server.llm.asked[0].prompt == "<user>Hi<assistant>Well"


def test_count_tokens(server: Server) -> None:
    answer = post(server, "/v1/messages/count_tokens", system="Be brief.")
    num_tokens = len("<system>Be brief.<user>Hi<assistant>")
    assert answer.json() == {
        "input_tokens": num_tokens,
        "context_management": {"original_input_tokens": num_tokens},
    }
    assert server.llm.asked == []


def test_counting_has_no_limit_of_length(server: Server) -> None:
    long = [{"role": "user", "content": "x" * 5000}]
    assert post(server, "/v1/messages/count_tokens", messages=long).json()["input_tokens"] > 5000
    assert post(server, messages=long).status_code == 400


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("fields", "status", "kind", "told"),
    [
        ({"messages": "Hi"}, 400, "invalid_request_error", "body.messages"),
        ({"messages": []}, 400, "invalid_request_error", "at least one"),
        ({"model": ""}, 400, "invalid_request_error", "body.model"),
        ({"model": "gpt"}, 404, "not_found_error", "served here: tiny"),
        ({"system": 3}, 400, "invalid_request_error", "body.system"),
        ({"chat_template_kwargs": {"messages": 1}}, 400, "invalid_request_error", "messages"),
    ],
)
def test_errors_have_anthropics_shape(
    server: Server, path: str, fields: dict[str, Any], status: int, kind: str, told: str
) -> None:
    answer = post(server, path, **fields)
    assert answer.status_code == status
    body = answer.json()
    assert (body["type"], set(body), set(body["error"])) == ("error", {"type", "error"}, {"type", "message"})
    assert body["error"]["type"] == kind
    assert told in body["error"]["message"]


def test_fields_of_the_answer_are_named_as_the_client_named_them(server: Server) -> None:
    message = post(server, stop_sequences=["x"] * 5).json()["error"]["message"]
    assert message.startswith("stop_sequences")
    assert post(server, max_tokens=0).status_code == 400


def test_errors_of_no_handler_have_the_shape_too(server: Server, serve: MakeServer) -> None:
    malformed = server.http.post("/v1/messages", content=b"{", headers={"content-type": "application/json"})
    wrong_method = server.http.get("/v1/messages")
    server.state.is_draining = True
    draining = post(server)
    no_key = post(serve(api_key=("k",)))
    found = [(a.status_code, a.json()["error"]["type"]) for a in (malformed, wrong_method, draining, no_key)]
    assert found == [
        (400, "invalid_request_error"),
        (405, "invalid_request_error"),
        (503, "overloaded_error"),
        (401, "authentication_error"),
    ]
    assert draining.headers["retry-after"]


def test_a_failing_engine_is_an_api_error(server: Server) -> None:
    server.llm.script = Script(pieces=(), failure=EngineRequestError("broken"))
    answer = post(server)
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "api_error")


def test_an_error_in_a_stream_is_its_last_event(server: Server) -> None:
    server.llm.script = Script(failure=EngineDeadError("gone"))
    assert events(server)[-1]["type"] == "error"
    assert events(server)[-1]["error"]["type"] == "api_error"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "k"}, 200),
        ({"X-Api-Key": " k "}, 200),
        ({"Authorization": "Bearer k"}, 200),
        ({"Authorization": "Bearer no", "x-api-key": "k"}, 200),
        ({"x-api-key": "no"}, 401),
        ({"x-api-key": "Bearer k"}, 401),
        ({"Authorization": "Basic k"}, 401),
        ({}, 401),
    ],
)
def test_keys(serve: MakeServer, headers: dict[str, str], status: int) -> None:
    server = serve(api_key=("k", "l"))
    assert server.http.post("/v1/messages", json=BODY, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error"),
        (404, "not_found_error"), (408, "timeout_error"), (413, "request_too_large"), (429, "rate_limit_error"),
        (500, "api_error"), (501, "api_error"), (503, "overloaded_error"),
    ],
)  # fmt: skip
def test_types_of_errors(status: int, kind: str) -> None:
    assert error_body(ErrorInfo("no", "X", status)) == {"type": "error", "error": {"type": kind, "message": "no"}}


def test_only_these_routes_speak_so() -> None:
    assert speaks_messages("/v1/messages")
    assert speaks_messages("/v1/messages/count_tokens")
    assert not speaks_messages("/v1/messages_other")
    assert not speaks_messages("/v1/chat/completions")


def test_every_answer_names_its_request(server: Server) -> None:
    assert len(post(server, "/v1/messages").headers["request-id"]) == 16
    named = server.http.post("/v1/messages/count_tokens", content=b"{", headers={"X-Request-Id": "mine"})
    assert (named.status_code, named.headers["request-id"]) == (400, "mine")
    assert "request-id" not in server.http.get("/v1/models").headers
