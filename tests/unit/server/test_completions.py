"""POST /v1/completions: whole answers and streams, prompts in all four forms, echo."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.server_without_engine import Script, Server, events_of

MakeServer = Callable[..., Server]


def chunks(server: Server, **fields: Any) -> list[Any]:
    answer = server.complete(stream=True, **fields)
    assert answer.status_code == 200, answer.text
    events = events_of(answer.text)
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def test_a_whole_answer_has_every_key(server: Server) -> None:
    answer = server.http.post("/v1/completions", json={"prompt": "Hi"}, headers={"X-Request-Id": "mine"})
    body = answer.json()
    assert isinstance(body.pop("created"), int)
    assert body.pop("system_fingerprint").startswith("kvik-")
    assert body == {
        "id": "cmpl-mine",
        "object": "text_completion",
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "text": "Hello",
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
                "token_ids": None,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "usage": {
            "prompt_tokens": 3,
            "total_tokens": 8,
            "completion_tokens": 5,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Hi", ["Hi"]),
        (["Hi", "Ho"], ["Hi", "Ho"]),
        ([72, 105], [[72, 105]]),
        ([[72], [105, 1]], [[72], [105, 1]]),
    ],
)
def test_prompts_in_four_forms(server: Server, prompt: Any, expected: list[Any]) -> None:
    assert server.complete(prompt=prompt).status_code == 200
    assert [asked.prompt for asked in server.llm.asked] == expected
    assert all(asked.params.max_tokens == 16 for asked in server.llm.asked)


def test_choices_are_numbered_by_prompt_then_n_and_usage_is_summed(server: Server) -> None:
    body = server.complete(prompt=["a", "bcd"], n=2).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["prompt_tokens"] == 2 + 4
    assert body["usage"]["completion_tokens"] == 4 * 5
    assert len({asked.request_id for asked in server.llm.asked}) == 2


def test_logprobs_are_four_lists(server: Server) -> None:
    server.llm.script = Script(["Ha"])
    found = server.complete(logprobs=2).json()["choices"][0]["logprobs"]
    assert found == {
        "text_offset": [0, 1],
        "token_logprobs": [-0.5, -0.5],
        "tokens": ["H", "a"],
        "top_logprobs": [{"H": -0.5, "a": -1.5}, {"a": -0.5}],
    }


def test_echo_puts_the_prompt_first_in_text_and_logprobs(server: Server) -> None:
    server.llm.script = Script(["!"])
    choice = server.complete(prompt=[72, 105], echo=True, logprobs=0, return_token_ids=True).json()["choices"][0]
    assert choice["text"] == "Hi!"
    assert choice["token_ids"] == [72, 105, 33]
    assert choice["logprobs"] == {
        "text_offset": [0, 1, 2],
        "token_logprobs": [None, -0.5, -0.5],
        "tokens": ["H", "i", "!"],
        "top_logprobs": [None, {"i": -0.5}, {"!": -0.5}],
    }
    assert server.llm.asked[0].params.prompt_logprobs == 0


def test_echo_alone_returns_the_prompt_and_counts_one_token(server: Server) -> None:
    server.llm.script = Script(["!"], "length")
    body = server.complete(echo=True, max_tokens=0, logprobs=0, return_tokens_as_token_ids=True).json()
    assert body["choices"][0]["text"] == "Hi"
    assert body["choices"][0]["logprobs"]["tokens"] == ["token_id:256", "token_id:72", "token_id:105"]
    assert body["usage"]["completion_tokens"] == 1
    assert server.llm.asked[0].params.max_tokens == 1


def test_no_tokens_without_echo_is_refused(server: Server) -> None:
    answer = server.complete(max_tokens=0)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "max_tokens")


def test_echo_of_a_truncated_prompt_is_what_the_model_read(server: Server) -> None:
    choice = server.complete(prompt="abcdef", echo=True, truncate_prompt_tokens=2).json()["choices"][0]
    assert choice["text"] == "efHello"


def test_stream_chunks_have_all_keys_always(serve: MakeServer) -> None:
    found = chunks(serve(fingerprint_mode="custom", fingerprint_value="fp"), return_token_ids=True)
    keys = {"index", "text", "logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids"}
    assert [set(chunk["choices"][0]) for chunk in found] == [keys, keys]
    assert [chunk["choices"][0]["prompt_token_ids"] for chunk in found] == [[256, 72, 105], None]
    assert [chunk.get("system_fingerprint") for chunk in found] == [None, "fp"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None, "stop"]


def test_streamed_usage_comes_last_with_the_fingerprint(serve: MakeServer) -> None:
    server = serve(fingerprint_mode="custom", fingerprint_value="fp")
    found = chunks(server, prompt=["a", "b"], stream_options={"include_usage": True})
    assert found[-1]["choices"] == []
    assert found[-1]["usage"] == {"prompt_tokens": 4, "total_tokens": 14, "completion_tokens": 10}
    assert [chunk.get("system_fingerprint") for chunk in found] == [None] * 4 + ["fp"]
    assert sorted(chunk["choices"][0]["index"] for chunk in found[:-1]) == [0, 0, 1, 1]


def test_streamed_echo_is_glued_to_the_first_text_and_offsets_go_on(server: Server) -> None:
    first, second = chunks(server, echo=True, logprobs=0)
    assert (first["choices"][0]["text"], second["choices"][0]["text"]) == ("HiHel", "lo")
    assert first["choices"][0]["logprobs"]["tokens"] == ["<s>", "H", "i", "H", "e", "l"]
    assert second["choices"][0]["logprobs"]["text_offset"] == [8, 9]


def test_echoed_logprobs_are_waited_for(server: Server) -> None:
    """The prompt's logprobs come with the first answer's output, which need not be the first to come."""
    from kvik.server.completions.answer import CompletionAnswer
    from kvik.server.completions.protocol import CompletionRequest
    from kvik.server.completions.stream import CompletionStream
    from kvik.server.generation import News
    from kvik.server.request_log import RequestLog
    from kvik.server.usage import StreamUsage
    from kvik.text.outputs import CompletionOutput, Logprob, RequestOutput

    request = CompletionRequest(prompt="A", n=2, echo=True, logprobs=0, stream=True)
    context = CompletionAnswer(
        request=request, request_id="r", created_s=0, model="m", decode=server.llm.tokenizer.decode
    )
    stream = CompletionStream(context, RequestLog(server.state.config), StreamUsage(False, False))

    def news(index: int, prompt_logprobs: Any) -> News:
        answer = CompletionOutput(index, "b", [98], [{98: Logprob(-0.5, 1, "b")}], finish_reason="stop")
        return News(0, RequestOutput("r", "A", [65], [answer], False, prompt_logprobs))

    assert stream.chunks(news(1, None)) == b""
    both = events_of(stream.chunks(news(0, [None])).decode())
    assert [json.loads(chunk)["choices"][0]["index"] for chunk in both] == [1, 0]
    assert all(json.loads(chunk)["choices"][0]["logprobs"]["tokens"] == ["A", "b"] for chunk in both)


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (None, "prompt"), ("", "prompt"), ([], "prompt"), ([""], "prompt"), (["a", ""], "prompt.1"), ([[]], "prompt"),
        ([1, "a"], "prompt"), ([[1], "a"], "prompt"), ({"a": 1}, "prompt"), ([-1], "prompt"), ([999], "prompt"),
        ([True], "prompt"), (5, "prompt"), (["a"] * 1025, "prompt"), ([1.5], "prompt"), ([2**70], "prompt"),
    ],
)  # fmt: skip
def test_bad_prompts_are_named(server: Server, prompt: Any, param: str) -> None:
    answer = server.complete(prompt=prompt)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_one_bad_prompt_frees_those_before_it(server: Server) -> None:
    assert server.complete(prompt=[[71, 72], [5000]]).status_code == 400
    assert len(server.llm.aborted) == 1


def test_prompts_times_n_is_capped(server: Server) -> None:
    answer = server.complete(prompt=["a"] * 600, n=2)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")
    assert server.llm.asked == []
