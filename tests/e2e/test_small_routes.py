"""The small routes over a real model: what they say is what the large ones do."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from support.server import KvikServer

CHAT = {"messages": [{"role": "user", "content": "Name three colours of the sky, with a snowman ☃ and 日本語."}]}


@pytest.fixture(scope="module")
def wide() -> Iterator[KvikServer]:
    flags = ("--enable-scale-out", "--enable-tokenizer-info-endpoint", "--max-model-len", "2048")
    with KvikServer(*flags, "--enable-prompt-tokens-details", "--kv-cache-memory-bytes", "256M") as running:
        yield running


def post(server: KvikServer, path: str, body: Any) -> Any:
    status, answer, _ = server.request("POST", path, body)
    assert status == 200, answer
    return answer


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    usage = {name: value for name, value in body["usage"].items() if name != "prompt_tokens_details"}
    return {name: value for name, value in body.items() if name not in ("id", "created")} | {"usage": usage}


@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens": 30, "temperature": 0},
        {"max_tokens": 20, "temperature": 0.8, "seed": 5, "n": 2, "return_token_ids": True},
        {"max_tokens": 40, "temperature": 0, "stop": [" the", "."], "include_stop_str_in_output": True},
        {"max_tokens": 40, "temperature": 0, "stop": ["e", "a"]},
        {"max_tokens": 12, "temperature": 1, "seed": 1, "logprobs": True, "top_logprobs": 3},
    ],
    ids=["greedy", "two", "stop", "stop left out", "logprobs"],
)
def test_a_chat_in_three_steps(wide: KvikServer, more: dict[str, Any]) -> None:
    whole = post(wide, "/v1/chat/completions", CHAT | more)
    rendered = post(wide, "/v1/chat/completions/render", CHAT | more)
    generated = post(wide, "/inference/v1/generate", rendered)
    again = post(wide, "/v1/chat/completions/derender", {"request": CHAT | more, "response": generated})
    assert comparable(again) == comparable(whole)
    assert again["id"] == rendered["request_id"]


@pytest.mark.parametrize("more", [{}, {"echo": True}, {"echo": True, "logprobs": 2}, {"logprobs": 0}], ids=str)
def test_completions_in_three_steps(wide: KvikServer, more: dict[str, Any]) -> None:
    body = {"prompt": ["Once upon a time", "Ein Schneemann ☃ und"], "max_tokens": 9, "temperature": 0} | more
    whole = post(wide, "/v1/completions", body)
    rendered = post(wide, "/v1/completions/render", body)
    generated = [post(wide, "/inference/v1/generate", one) for one in rendered]
    again = post(wide, "/v1/completions/derender", {"request": body, "responses": generated})
    assert comparable(again) == comparable(whole)


def test_a_stream_of_ids_is_the_answer_in_ids(wide: KvikServer) -> None:
    body = {"token_ids": [504, 905, 282], "sampling_params": {"temperature": 0, "max_tokens": 10, "ignore_eos": True}}
    whole = post(wide, "/inference/v1/generate", body)["choices"][0]
    _, text, _ = wide.request("POST", "/inference/v1/generate", body | {"stream": True})
    chunks = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]
    assert [i for chunk in chunks for i in chunk["choices"][0]["token_ids"]] == whole["token_ids"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"] == "length"


@pytest.mark.parametrize("change", [
    {"responses": []}, {"responses": [{"choices": []}]}, {"responses": [{"choices": [{"token_ids": [10**8]}]}]},
    {"responses": [{"choices": [{"index": 1, "token_ids": [1]}]}]},
    {"responses": [{"choices": [{"token_ids": [1], "logprobs": {"content": [{}]}}]}]},
    {"request": {"prompt": "a", "prompt_logprobs": 1}}, {"request": {"prompt": ["a", "b"]}}, {"request": {}},
])  # fmt: skip
def test_what_cannot_be_derendered(wide: KvikServer, change: dict[str, Any]) -> None:
    body = {"request": {"prompt": "a"}, "responses": [{"choices": [{"token_ids": [1]}]}]}
    assert wide.request("POST", "/v1/completions/derender", body)[0] == 200
    status, answer, _ = wide.request("POST", "/v1/completions/derender", body | change)
    assert status == 400
    assert answer["error"]["param"]


@pytest.mark.parametrize("item_first", [False, True])
def test_scores_are_the_models_probabilities(wide: KvikServer, item_first: bool) -> None:
    query, items = "The capital of France is the city of", [" Paris, yes or no?", " Rome, yes or no?"]
    labels = [post(wide, "/tokenize", {"prompt": text})["tokens"][0] for text in (" Yes", " No")]
    asked = {"query": query, "items": items, "label_token_ids": labels, "item_first": item_first}
    for apply_softmax in (True, False):
        answer = post(wide, "/generative_scoring", asked | {"apply_softmax": apply_softmax})
        for item, entry in zip(items, answer["data"], strict=True):
            parts = [post(wide, "/tokenize", {"prompt": text})["tokens"] for text in (query, item)]
            prompt = parts[item_first] + parts[not item_first]
            body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 0, "logprob_token_ids": labels,
                    "return_tokens_as_token_ids": True}  # fmt: skip
            top = post(wide, "/v1/completions", body)["choices"][0]["logprobs"]["top_logprobs"][0]
            yes, no = (math.exp(top[f"token_id:{label}"]) for label in labels)
            assert entry["score"] == pytest.approx(yes / (yes + no) if apply_softmax else yes, rel=1e-6)


def test_items_share_their_query(wide: KvikServer) -> None:
    hits = wide.metric("vllm:prefix_cache_hits_total")
    query = "An unusual question about marmalade and lighthouses. " * 12
    body = {"query": query, "items": [f" item {i}" for i in range(6)], "label_token_ids": [5, 6]}
    usage = post(wide, "/generative_scoring", body)["usage"]
    num_query_tokens = post(wide, "/tokenize", {"prompt": query})["count"]
    assert wide.metric("vllm:prefix_cache_hits_total") - hits >= 5 * (num_query_tokens // 16 * 16)
    assert usage["completion_tokens"] == 6


def test_tokens_come_back_as_text_or_not_at_all(wide: KvikServer) -> None:
    ids = post(wide, "/tokenize", {"prompt": "snowman ☃"})["tokens"]
    assert post(wide, "/detokenize", {"tokens": ids})["prompt"] == "snowman ☃"
    status, answer, _ = wide.request("POST", "/detokenize", {"tokens": [*ids, 10**6]})
    assert (status, answer["error"]["param"]) == (400, "tokens")


def test_the_tokenizers_own_words(wide: KvikServer) -> None:
    info = wide.request("GET", "/tokenizer_info")[1]
    assert info["vocab_size"] > 10000
    assert info["tokenizer_class"]
    assert info["chat_template"]


@pytest.mark.parametrize("limit", [
    {"temperature": 1e-30}, {"temperature": 0.001}, {"top_k": 1, "temperature": 2}, {"top_p": 1e-9, "temperature": 2},
    {"top_p": 1e-300}, {"min_p": 1, "temperature": 2},
], ids=str)  # fmt: skip
def test_every_way_to_be_greedy(wide: KvikServer, limit: dict[str, Any]) -> None:
    body = {"prompt": "The old captain looked at the sea and", "max_tokens": 24, "return_token_ids": True, "seed": 9}
    greedy = post(wide, "/v1/completions", body | {"temperature": 0})["choices"][0]
    found = post(wide, "/v1/completions", body | limit)["choices"][0]
    assert (found["token_ids"], found["text"]) == (greedy["token_ids"], greedy["text"])


def test_several_greedy_answers_are_equal(wide: KvikServer) -> None:
    choices = post(wide, "/v1/completions", {"prompt": "One", "n": 4, "temperature": 0, "max_tokens": 8})["choices"]
    assert [c["index"] for c in choices] == [0, 1, 2, 3]
    assert len({c["text"] for c in choices}) == 1


def test_a_thousand_prompts_are_answered(wide: KvikServer) -> None:
    prompts = [f"Number {i} is" for i in range(1024)]
    body = {"prompt": prompts, "max_tokens": 1, "temperature": 0, "echo": True}
    answer = post(wide, "/v1/completions", body)
    assert [c["index"] for c in answer["choices"]] == list(range(1024))
    assert all(c["text"].startswith(p) for c, p in zip(answer["choices"], prompts, strict=True))
    alone = post(wide, "/v1/completions", body | {"prompt": prompts[700]})
    assert alone["choices"][0]["text"] == answer["choices"][700]["text"]
