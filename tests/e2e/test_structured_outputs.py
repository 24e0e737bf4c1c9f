"""Constrained answers of the real server, streamed and not, drafted and not, alone and beside others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
from openai import APIError, BadRequestError, OpenAI

from support.server import MODEL, KvikServer

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
TAG = {"begin": "<call>", "schema": PERSON, "end": "</call>"}
GBNF = 'root ::= "I say " answer "."\nanswer ::= "yes" | "no" | [0-9]{1,3}\n'
CALLS: dict[str, dict[str, Any]] = {
    "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}},
    "sampled schema": {"structured_outputs": {"json": PERSON}, "temperature": 0.9, "seed": 3, "logprobs": 2},
    "regex": {"structured_outputs": {"regex": r"[a-f]{4}-\d{2}"}, "ignore_eos": True},
    "choice": {"guided_choice": ["red wine", "green tea"]},
    "gbnf": {"structured_outputs": {"grammar": GBNF}},
    "lark": {"guided_grammar": 'start: "x" ("," "x"){2,4}'},
    "three": {"structured_outputs": {"json": PERSON}, "temperature": 0.8, "seed": 1, "n": 3},
    "penalties": {"structured_outputs": {"json": PERSON}, "frequency_penalty": 0.5, "min_tokens": 10},
}


def ask(server: KvikServer, call: dict[str, Any]) -> list[tuple[Any, ...]]:
    body = {
        "model": MODEL,
        "prompt": "A person as JSON:",
        "temperature": 0,
        "max_tokens": 150,
        "return_token_ids": True,
    }
    status, answer, _ = server.request("POST", "/v1/completions", body | call)
    assert status == 200, answer
    keys = ("text", "token_ids", "logprobs", "finish_reason", "stop_reason")
    return [tuple(choice.get(key) for key in keys) for choice in answer["choices"]]


def check(name: str, text: str) -> None:
    if name in ("schema", "sampled schema", "three", "penalties"):
        jsonschema.validate(json.loads(text), PERSON)
    else:
        pattern = {
            "regex": r"[a-f]{4}-\d{2}", "choice": "red wine|green tea", "gbnf": r"I say (yes|no|\d{1,3})\.",
            "lark": "x(,x){2,4}",
        }[name]  # fmt: skip
        assert re.fullmatch(pattern, text)


@pytest.fixture(scope="module")
def plain(server: KvikServer) -> dict[str, list[tuple[Any, ...]]]:
    return {name: ask(server, call) for name, call in CALLS.items()}


def test_answers_follow_their_grammar_and_end_by_themselves(plain: dict[str, list[tuple[Any, ...]]]) -> None:
    for name, choices in plain.items():
        assert len(choices) == CALLS[name].get("n", 1)
        for text, _, _, finish_reason, stop_reason in choices:
            check(name, text)
            assert (finish_reason, stop_reason) == ("stop", None), name


@pytest.fixture(scope="module")
def drafting() -> Iterator[KvikServer]:
    method = {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
    with KvikServer("--speculative-config", json.dumps(method)) as running:
        yield running


def test_answers_are_the_same_with_drafts_and_together(
    drafting: KvikServer, plain: dict[str, list[tuple[Any, ...]]]
) -> None:
    assert {name: ask(drafting, call) for name, call in CALLS.items()} == plain
    with ThreadPoolExecutor(len(CALLS)) as pool:
        together = dict(zip(CALLS, pool.map(lambda call: ask(drafting, call), CALLS.values()), strict=True))
    assert together == plain


def test_answers_are_the_same_with_preemption(plain: dict[str, list[tuple[Any, ...]]]) -> None:
    with (
        KvikServer("--num-gpu-blocks-override", "13", "--max-model-len", "180") as small,
        ThreadPoolExecutor(2 * len(CALLS)) as pool,
    ):
        calls = [*CALLS.values(), *CALLS.values()]
        assert list(pool.map(lambda call: ask(small, call), calls)) == [*plain.values(), *plain.values()]
        assert small.metric("vllm:num_preemptions_total") > 0


def test_a_stream_is_the_whole_answer(client: OpenAI) -> None:
    call: dict[str, Any] = {
        "model": MODEL, "messages": [{"role": "user", "content": "Describe a person."}], "temperature": 0,
        "max_tokens": 150, "response_format": CALLS["schema"]["response_format"],
    }  # fmt: skip
    whole = client.chat.completions.create(**call).choices[0]
    chunks = list(client.chat.completions.create(**call, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.message.content
    assert (whole.finish_reason, chunks[-1].choices[0].finish_reason) == ("stop", "stop")
    jsonschema.validate(json.loads(text), PERSON)


def test_a_structural_tag_leaves_text_free(server: KvikServer) -> None:
    content = {"type": "json_schema", "json_schema": PERSON}
    forced = {
        "type": "structural_tag",
        "format": {"type": "tag", "begin": "<call>", "content": content, "end": "</call>"},
    }
    ((text, _, _, reason, _),) = ask(server, {"response_format": forced})
    assert reason == "stop"
    body = re.search("<call>(.*)</call>$", text, re.DOTALL)
    assert body is not None
    jsonschema.validate(json.loads(body[1]), PERSON)
    free = {"type": "structural_tag", "structures": [TAG], "triggers": ["<call"]}
    ((text, *_),) = ask(server, {"prompt": "Once upon a time", "response_format": free, "max_tokens": 10})
    assert text


BAD: dict[str, dict[str, Any]] = {
    "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nope"}}}},
    "no schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
    "regex": {"structured_outputs": {"regex": "(a"}},
    "lookahead": {"guided_regex": "(?=a)b"},
    "lark": {"structured_outputs": {"grammar": "start: b"}},
    "gbnf": {"guided_grammar": 'root ::= ("a"'},
    "none": {"structured_outputs": {}},
    "two": {"structured_outputs": {"regex": "a", "choice": ["a"]}},
    "two fields": {"guided_regex": "a", "response_format": {"type": "json_object"}},
    "no choice": {"structured_outputs": {"choice": []}},
    "tag": {"response_format": {"type": "structural_tag", "format": {"type": "what"}}},
    "deep": {"structured_outputs": {"json": '{"items":' * 80 + "true" + "}" * 80}},
    "long regex": {"structured_outputs": {"regex": "a" * 10_000}},
    "big repetition": {"structured_outputs": {"regex": "((a{1000}){1000}){1000}b"}},
    "unsatisfiable": {"guided_json": {"type": "integer", "minimum": 4, "maximum": 1}},
    "many keys": {
        "guided_json": {"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(25_000)}}
    },
}


def test_what_is_wrong_is_a_400_before_a_stream_and_a_neighbour_goes_on(server: KvikServer) -> None:
    victim = {"prompt": "Once upon a time", "max_tokens": 150, "ignore_eos": True}
    alone = ask(server, victim)
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(ask, server, victim)
        for name, call in BAD.items():
            body = {"model": MODEL, "prompt": "x", "max_tokens": 5, "stream": True} | call
            status, answer, _ = server.request("POST", "/v1/completions", body)
            assert status == 400 or name == "big repetition", (name, answer)
            if status == 400:
                param = answer["error"]["param"]
                assert param in call, (name, answer)
                assert len(answer["error"]["message"]) < 1500
        assert beside.result() == alone


def test_the_sdk_raises_its_own_error(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hi"}], extra_body={"guided_regex": "["}
        )
    assert refused.value.param == "guided_regex"


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "allowed_token_ids": {"guided_choice": ["yes", "no"], "allowed_token_ids": [0]},
    "bad_words": {"guided_choice": ["a"], "bad_words": ["a"]},
}


def test_fields_that_leave_no_token_are_the_clients_error_and_a_neighbour_goes_on(server: KvikServer) -> None:
    victim = {"prompt": "Once upon a time", "max_tokens": 60, "ignore_eos": True}
    alone = ask(server, victim)
    with ThreadPoolExecutor(1) as pool, server.client() as client:
        beside = pool.submit(ask, server, victim)
        for param, call in CONTRADICTIONS.items():
            body = {"model": MODEL, "prompt": "x", "max_tokens": 5, "temperature": 0} | call
            status, answer, _ = server.request("POST", "/v1/completions", body)
            assert (status, answer["error"]["param"]) == (400, param), answer
            asked = {k: body[k] for k in ("model", "prompt")}
            with pytest.raises(APIError) as ended:
                list(client.completions.create(**asked, stream=True, extra_body=call))
            assert ended.value.param == param
        assert beside.result() == alone
