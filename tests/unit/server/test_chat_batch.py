"""Several conversations in one request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvik.config.limits import RequestLimits
from support.server_without_engine import Script, Server

MakeServer = Callable[..., Server]


def batch(server: Server, *conversations: Any, **fields: Any) -> Any:
    body = {"messages": list(conversations), "request_id": "r1", **fields}
    return server.http.post("/v1/chat/completions/batch", json=body)


def says(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_one_choice_per_conversation_and_usage_summed(serve: MakeServer) -> None:
    server = serve(enable_prompt_tokens_details=True)
    server.llm.script = Script(num_cached_tokens=2)
    body = batch(server, says("a"), says("bc"), max_tokens=9).json()
    assert (body["id"], body["object"], body["model"]) == ("chatcmpl-r1", "chat.completion", "tiny")
    assert [c["index"] for c in body["choices"]] == [0, 1]
    assert [c["message"]["content"] for c in body["choices"]] == ["Hello", "Hello"]
    prompts = ["<user>a<assistant>", "<user>bc<assistant>"]
    assert [a.prompt for a in server.llm.asked] == prompts
    assert {a.params.max_tokens for a in server.llm.asked} == {9}
    usage = body["usage"]
    assert usage["prompt_tokens"] == sum(len(p) for p in prompts)
    assert usage["completion_tokens"] == 10
    assert usage["total_tokens"] == usage["prompt_tokens"] + 10
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4


def test_choices_have_their_logprobs_and_token_ids(server: Server) -> None:
    body = batch(server, says("a"), says("b"), logprobs=True, return_token_ids=True).json()
    assert [c["token_ids"] for c in body["choices"]] == [list(b"Hello")] * 2
    assert all(len(c["logprobs"]["content"]) == 5 for c in body["choices"])
    assert body["prompt_token_ids"] is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"stream": True}, "stream"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"return_prompt_text": True}, "return_prompt_text"),
        ({"temperature": 3}, "temperature"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [[]]}, "messages.0"),
        ({"messages": [says("a"), [{"role": "user", "content": 3}]]}, "messages.1.0.content"),
        ({"messages": says("a")}, "body.messages.0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(server: Server, fields: dict[str, Any], param: str) -> None:
    answer = batch(server, says("a"), **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert server.llm.asked == []


def test_what_asks_for_nothing_is_no_offence(server: Server) -> None:
    assert batch(server, says("a"), stream=False, n=1, use_beam_search=False, tool_choice="none").status_code == 200


def test_the_number_of_conversations_has_an_end(server: Server) -> None:
    server.state.limits = RequestLimits(max_prompts=2)
    answer = batch(server, *[says("a")] * 3)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
