"""Streamed chat completions: which chunks come, in which order, with which keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kvik.errors import EngineDeadError, EngineRequestError
from support.server_without_engine import Script, Server, events_of

MakeServer = Callable[..., Server]


def chunks(server: Server, **fields: Any) -> list[Any]:
    """The events of a stream without what all chunks share, which is checked here."""
    answer = server.chat(stream=True, request_id="r1", **fields)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    events = events_of(answer.text)
    assert events.pop() == "[DONE]"
    found = [json.loads(event) for event in events]
    for chunk in found:
        assert chunk.pop("id") == "chatcmpl-r1"
        assert chunk.pop("object") == "chat.completion.chunk"
        assert chunk.pop("model") == "tiny"
        assert isinstance(chunk.pop("created"), int)
    return found


ROLE = {
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}],
    "prompt_token_ids": None,
    "prompt_text": None,
}


def text(content: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": None, "token_ids": None}
    return {"choices": [choice | more]}


def test_a_plain_stream(serve: MakeServer) -> None:
    server = serve(fingerprint_mode="custom", fingerprint_value="fp")
    assert chunks(server) == [
        ROLE,
        text("Hel"),
        text("lo", finish_reason="stop", stop_reason=None) | {"system_fingerprint": "fp"},
    ]


def test_with_usage_the_fingerprint_moves_to_the_usage_chunk(serve: MakeServer) -> None:
    server = serve(fingerprint_mode="custom", fingerprint_value="fp")
    assert chunks(server, stream_options={"include_usage": True}) == [
        ROLE,
        text("Hel"),
        text("lo", finish_reason="stop", stop_reason=None),
        {
            "choices": [],
            "usage": {"prompt_tokens": 19, "total_tokens": 24, "completion_tokens": 5},
            "system_fingerprint": "fp",
        },
    ]


@pytest.mark.parametrize("forced", [False, True])
def test_usage_in_every_chunk(serve: MakeServer, forced: bool) -> None:
    server = serve(enable_force_include_usage=forced)
    options = {} if forced else {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks(server, **options)]
    assert counts == [0, 3, 5, 5]


def test_continuous_usage_needs_include_usage(server: Server) -> None:
    found = chunks(server, stream_options={"continuous_usage_stats": True})
    assert not any("usage" in chunk for chunk in found)


def test_every_choice_has_a_role_chunk_first(server: Server) -> None:
    found = chunks(server, n=2)
    assert [(c["choices"][0]["index"], c["choices"][0]["delta"].get("role")) for c in found] == [
        (0, "assistant"), (1, "assistant"), (0, None), (1, None), (0, None), (1, None),
    ]  # fmt: skip


def test_token_ids_logprobs_and_prompt(server: Server) -> None:
    server.llm.script = Script(["H"], "stop", "END")
    role, last = chunks(
        server, return_token_ids=True, return_prompt_text=True, logprobs=True, top_logprobs=1, fingerprint=None
    )
    assert role["prompt_token_ids"] == list(b"<user>Hi<assistant>")
    assert role["prompt_text"] == "<user>Hi<assistant>"
    assert last["choices"][0]["token_ids"] == [72]
    assert last["choices"][0]["stop_reason"] == "END"
    entry = {"token": "H", "logprob": -0.5, "bytes": [72]}
    assert last["choices"][0]["logprobs"] == {"content": [entry | {"top_logprobs": [entry]}]}


def test_a_last_chunk_without_text_has_an_empty_delta(server: Server) -> None:
    server.llm.script = Script(["Hi", ""])
    assert chunks(server)[-1]["choices"][0]["delta"] == {}


def test_echo_follows_the_role_chunk(server: Server) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well, "}]
    found = chunks(server, messages=messages, echo=True, continue_final_message=True, add_generation_prompt=False)
    assert found[1] == {
        "choices": [{"index": 0, "delta": {"content": "Well, "}, "logprobs": None, "finish_reason": None}]
    }


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (EngineRequestError("kernel at 0x7f00aa failed in /srv/kvik/x.py"), "kernel failed in <path>"),
        (EngineDeadError("gone"), "the engine has died"),
        (RuntimeError("secret"), "unforeseen"),
    ],
)
def test_an_error_in_the_stream_is_an_event_and_then_done(server: Server, failure: Exception, words: str) -> None:
    server.llm.script = Script(["Hi"], failure=failure)
    events = events_of(server.chat(stream=True).text)
    assert events[-1] == "[DONE]"
    error = json.loads(events[-2])["error"]
    assert (error["type"], error["code"], error["param"]) == ("InternalServerError", 500, None)
    assert words in error["message"]
    assert "secret" not in error["message"]


def test_finish_reason_error_is_an_error_event(server: Server) -> None:
    server.llm.script = Script(["Hi"], finish_reason="error")
    assert '"code":500' in events_of(server.chat(stream=True).text)[-2]


def test_a_stream_is_closed_at_its_end_and_not_aborted(server: Server) -> None:
    chunks(server)
    assert server.llm.aborted == []


@pytest.mark.parametrize(
    "fields", [{"temperature": 9}, {"prompt_logprobs": 1}, {"max_tokens": 1000}, {"stop": ["a"] * 5}]
)
def test_a_bad_request_never_starts_a_stream(server: Server, fields: dict[str, Any]) -> None:
    answer = server.chat(stream=True, **fields)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
