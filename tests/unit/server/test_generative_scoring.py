"""Scores by label tokens: prompts, arithmetic, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.errors import InvalidRequestError
from kvik.server.generative_scoring import label_logprobs, score
from kvik.text.outputs import CompletionOutput, Logprob, RequestOutput
from support.server_without_engine import Server

BODY = {"query": "Is it ", "items": ["a", "bc"], "label_token_ids": [72]}


def post(server: Server, **more: Any) -> Any:
    return server.http.post("/generative_scoring", json=BODY | more)


def output(logprobs: dict[int, float]) -> RequestOutput:
    position = {token_id: Logprob(value, 1, "") for token_id, value in logprobs.items()}
    return RequestOutput("id", None, [1], [CompletionOutput(0, "", [1], [position])], True)


def test_an_item_is_a_prompt(server: Server) -> None:
    server.llm.script.pieces = ("H",)
    body = post(server).json()
    assert [asked.prompt for asked in server.llm.asked] == [[256, *b"Is it a"], [256, *b"Is it bc"]]
    params = server.llm.asked[0].params
    assert (params.max_tokens, params.is_greedy, params.logprob_token_ids) == (1, True, [72])
    assert body["object"] == "list"
    assert body["id"].startswith("score-")
    assert body["data"] == [{"index": i, "object": "score", "score": 1.0} for i in range(2)]
    assert body["usage"]["prompt_tokens"] == 8 + 9
    assert body["usage"]["completion_tokens"] == 2


def test_orders_and_forms(server: Server) -> None:
    server.llm.script.pieces = ("H",)
    post(server, item_first=True, query=[1, 2], items=["a", [7, 8]], add_special_tokens=True)
    assert [asked.prompt for asked in server.llm.asked] == [[256, 97, 1, 2], [7, 8, 1, 2]]
    server.llm.asked.clear()
    post(server, add_special_tokens=False, cache_salt="s", priority=3)
    assert [asked.prompt for asked in server.llm.asked] == [list(b"Is it a"), list(b"Is it bc")]
    assert [(asked.cache_salt, asked.priority) for asked in server.llm.asked] == [("s", 3)] * 2


def test_without_softmax_it_is_the_probability(server: Server) -> None:
    server.llm.script.pieces = ("H",)
    scores = [entry["score"] for entry in post(server, apply_softmax=False).json()["data"]]
    assert scores == pytest.approx([math.exp(-0.5)] * 2)


def test_a_label_without_a_logprob_is_a_400(server: Server) -> None:
    answer = post(server, label_token_ids=[72, 99])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "label_token_ids")
    assert "99" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"items": []}, "body.items"),
        ({"label_token_ids": []}, "body.label_token_ids"),
        ({"label_token_ids": list(range(129))}, "body.label_token_ids"),
        ({"label_token_ids": [72, 72]}, "label_token_ids"),
        ({"label_token_ids": [5000]}, "logprob_token_ids"),
        ({"query": ""}, "query"),
        ({"query": []}, "query"),
        ({"items": ["a", ""]}, "items.1"),
        ({"items": ["a"] * 1025}, "items"),
        ({"items": [[5000]]}, "prompt"),
        ({"model": "other"}, "model"),
        ({"cache_salt": "a/b"}, "cache_salt"),
    ],
)
def test_what_is_refused(server: Server, more: dict[str, Any], param: str) -> None:
    answer = post(server, **more)
    assert answer.status_code == (404 if param == "model" else 400)
    assert answer.json()["error"]["param"] == param


@given(st.lists(st.floats(-60, 0), min_size=1, max_size=8))
def test_softmax_over_the_labels_sums_to_one(logprobs: list[float]) -> None:
    turned = [score(logprobs[i:] + logprobs[:i], True) for i in range(len(logprobs))]
    assert sum(turned) == pytest.approx(1)
    assert all(0 <= value <= 1 for value in turned)


def test_impossible_labels_have_no_logprob() -> None:
    assert label_logprobs(output({5: -1.0, 6: -2.0}), [6, 5]) == [-2.0, -1.0]
    with pytest.raises(InvalidRequestError, match="7"):
        label_logprobs(output({7: -math.inf}), [7])
