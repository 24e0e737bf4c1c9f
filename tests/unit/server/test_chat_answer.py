"""Whole chat completions, compared with what the interface says, key by key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvik.server.logprobs import chat_logprobs
from kvik.text.outputs import Logprob
from support.server_without_engine import Script, Server

MakeServer = Callable[..., Server]


def test_a_whole_answer_has_every_key(server: Server) -> None:
    body = server.chat(request_id="r1").json()
    assert isinstance(body.pop("created"), int)
    assert body.pop("system_fingerprint").startswith("kvik-")
    assert body == {
        "id": "chatcmpl-r1",
        "object": "chat.completion",
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "refusal": None,
                    "annotations": None,
                    "audio": None,
                    "function_call": None,
                    "reasoning": None,
                    "reasoning_content": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
                "token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "usage": {
            "prompt_tokens": 19,
            "total_tokens": 24,
            "completion_tokens": 5,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def test_the_engine_gets_the_rendered_prompt_and_the_parameters(server: Server) -> None:
    server.chat(
        temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, seed=3, stop="x", stop_token_ids=[5], max_tokens=9,
        min_tokens=2, presence_penalty=1, frequency_penalty=-1, repetition_penalty=1.5, logit_bias={"3": 4},
        bad_words=[], allowed_token_ids=[3, 4, 5], ignore_eos=True, skip_special_tokens=False,
        include_stop_str_in_output=True,
        priority=-4, cache_salt="mine", stream_interval=3, truncate_prompt_tokens=20, truncation_side="right",
    )  # fmt: skip
    asked = server.llm.asked[0]
    assert asked.prompt == "<user>Hi<assistant>"
    assert asked.options.add_special_tokens is False
    assert (asked.options.truncate_prompt_tokens, asked.options.truncation_side) == (20, "right")
    assert (asked.priority, asked.cache_salt, asked.stream_interval) == (-4, "mine", 3)
    p = asked.params
    assert (p.temperature, p.top_p, p.top_k, p.min_p, p.seed) == (0.5, 0.9, 7, 0.1, 3)
    assert (p.stop, p.stop_token_ids, p.max_tokens, p.min_tokens) == (["x"], [5], 9, 2)
    assert (p.presence_penalty, p.frequency_penalty, p.repetition_penalty) == (1, -1, 1.5)
    assert (p.logit_bias, p.allowed_token_ids, p.ignore_eos) == ({3: 4.0}, [3, 4, 5], True)
    assert (p.skip_special_tokens, p.include_stop_str_in_output) == (False, True)


def test_max_completion_tokens_wins_and_nothing_means_what_fits(server: Server) -> None:
    server.chat(max_completion_tokens=3, max_tokens=9)
    server.chat()
    assert [asked.params.max_tokens for asked in server.llm.asked] == [3, 200 - 19]


def test_a_generation_config_that_was_given_caps_every_answer(serve: MakeServer) -> None:
    server = serve(default_sampling_params={"max_tokens": 11}, max_tokens_cap=11)
    for asked in (None, 9, 12, 199):
        server.chat(**({} if asked is None else {"max_completion_tokens": asked}))
        server.complete(**({} if asked is None else {"max_tokens": asked}))
    assert [a.params.max_tokens for a in server.llm.asked] == [11, 11, 9, 9, 11, 11, 11, 11]
    too_long = server.chat(max_tokens=201)
    assert (too_long.status_code, too_long.json()["error"]["param"]) == (400, "max_tokens")


def test_a_default_beyond_the_context_is_the_context(serve: MakeServer) -> None:
    server = serve(default_sampling_params={"max_tokens": 100000})
    assert server.chat().status_code == 200
    assert server.llm.asked[0].params.max_tokens == 200 - 19


def test_precedence_of_request_server_default_and_field_default(serve: MakeServer) -> None:
    defaults = {"temperature": 0.3, "top_k": 20, "max_tokens": 11}
    server = serve(default_sampling_params=defaults)
    server.chat(temperature=0.7, stop_token_ids=[8])
    p = server.llm.asked[0].params
    assert (p.temperature, p.top_k, p.top_p, p.max_tokens, p.stop_token_ids) == (0.7, 20, 1.0, 11, [8])


def test_n_answers_are_n_choices_and_count_the_prompt_once(server: Server) -> None:
    body = server.chat(n=3).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (19, 15)


def test_logprobs_start_with_the_chosen_token_and_are_cut(server: Server) -> None:
    server.llm.script = Script(["H"])
    entry = {"token": "H", "logprob": -0.5, "bytes": [72]}
    a = {"token": "a", "logprob": -1.5, "bytes": [97]}
    b = {"token": "b", "logprob": -9999.0, "bytes": [98]}

    def content(**fields: Any) -> Any:
        return server.chat(logprobs=True, **fields).json()["choices"][0]["logprobs"]["content"]

    assert content() == [entry | {"top_logprobs": []}]
    assert content(top_logprobs=3) == [entry | {"top_logprobs": [entry, a, b]}]
    assert content(logprob_token_ids=[98]) == [entry | {"top_logprobs": []}]
    assert content(top_logprobs=1, logprob_token_ids=[72]) == [entry | {"top_logprobs": [entry]}]
    assert content(return_tokens_as_token_ids=True)[0]["token"] == "token_id:72"


def test_prompt_logprobs_are_by_token_id(server: Server) -> None:
    found = server.chat(prompt_logprobs=1).json()["prompt_logprobs"]
    assert found[0] is None
    assert found[1] == {"117": {"logprob": -0.5, "rank": 1, "decoded_token": "u"}}
    assert len(found) == 19


def test_token_ids_and_prompt_text_on_request(server: Server) -> None:
    body = server.chat(return_token_ids=True, return_prompt_text=True).json()
    assert body["choices"][0]["token_ids"] == list(b"Hello")
    assert body["prompt_token_ids"] == list(b"<user>Hi<assistant>")
    assert body["prompt_text"] == "<user>Hi<assistant>"


def test_echo_repeats_the_message_that_is_continued(server: Server) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well, "}]
    body = server.chat(messages=messages, echo=True, continue_final_message=True, add_generation_prompt=False).json()
    assert body["choices"][0]["message"]["content"] == "Well, Hello"
    assert server.llm.asked[0].prompt == "<user>Hi<assistant>Well, "


def test_content_parts_of_type_text_are_joined(server: Server) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    server.chat(messages=[{"role": "user", "content": parts}])
    assert server.llm.asked[0].prompt == "<user>one\ntwo<assistant>"


@pytest.mark.parametrize(
    ("finish_reason", "stop_reason"), [("length", None), ("stop", "END"), ("stop", 7), ("abort", None)]
)
def test_reasons_are_passed_on(server: Server, finish_reason: str, stop_reason: int | str | None) -> None:
    server.llm.script = Script(["x"], finish_reason, stop_reason)
    choice = server.chat().json()["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == (finish_reason, stop_reason)


def test_usage_details_and_timings_with_their_flags(serve: MakeServer) -> None:
    server = serve(enable_prompt_tokens_details=True, enable_per_request_metrics=True)
    server.llm.script = Script(num_cached_tokens=16)
    body = server.chat().json()
    assert body["usage"]["prompt_tokens_details"] == {
        "cached_tokens": 16, "created_cache_tokens": None, "multimodal_tokens": None,
    }  # fmt: skip
    assert body["metrics"] == {
        "time_to_first_token_ms": 2250.0,
        "generation_time_ms": 2000.0,
        "queue_time_ms": 500.0,
        "mean_itl_ms": 500.0,
        "tokens_per_second": 2.0,
        "speculative_decoding": None,
    }


def test_an_alias_is_answered_with_the_first_name(server: Server) -> None:
    assert server.chat(model="alias").json()["model"] == "tiny"


@pytest.mark.parametrize(
    ("flags", "fingerprint"),
    [({"fingerprint_mode": "none"}, None), ({"fingerprint_mode": "custom", "fingerprint_value": "blue"}, "blue")],
)
def test_fingerprint_modes(serve: MakeServer, flags: dict[str, str], fingerprint: str | None) -> None:
    assert serve(**flags).chat().json()["system_fingerprint"] == fingerprint


def test_template_variables_come_from_request_and_effort(server: Server) -> None:
    template = "{{ messages[0].content }}|{{ tone }}|{{ enable_thinking }}|{{ reasoning_effort }}"
    server.llm.chat_template = type(server.llm.chat_template)(template)
    server.chat(chat_template_kwargs={"tone": "soft"}, reasoning_effort="none")
    assert server.llm.asked[0].prompt == "Hi|soft|False|none"


def test_a_template_in_the_request_needs_trust(server: Server, serve: MakeServer) -> None:
    for fields in ({"chat_template": "x"}, {"chat_template_kwargs": {"chat_template": "x"}}):
        answer = server.chat(**fields)
        assert answer.status_code == 400
        assert "--trust-request-chat-template" in answer.json()["error"]["message"]
    trusting = serve(trust_request_chat_template=True)
    assert trusting.chat(chat_template="mine").status_code == 200
    assert trusting.llm.asked[0].prompt == "mine"


def test_wanted_token_ids_follow_the_top() -> None:
    positions = [{72: Logprob(-0.5, 1, "H"), 97: Logprob(-1.5, 2, "a"), 98: Logprob(-2.5, 9, "b")}]
    entry = chat_logprobs(positions, 1, False, [98, 72])["content"][0]
    assert [top["token"] for top in entry["top_logprobs"]] == ["H", "b"]
