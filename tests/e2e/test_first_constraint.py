"""A constrained request that is a server's very first waits for the vocabulary of grammars, but not for long."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from support.server import MODEL, KvikServer

MAX_LATER_S = 2.0
SCHEMA = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}


def answer_s(server: KvikServer, **fields: Any) -> tuple[float, str]:
    """Seconds until a short answer is there, and its text."""
    started = time.perf_counter()
    body = {"model": MODEL, "prompt": "A third as JSON: ", "max_tokens": 80, "temperature": 0} | fields
    status, answer, _ = server.request("POST", "/v1/completions", body)
    assert status == 200, answer
    return time.perf_counter() - started, answer["choices"][0]["text"]


def test_the_first_constrained_request_right_after_ready() -> None:
    with KvikServer() as fresh:
        first_s, text = answer_s(fresh, response_format=FORMAT)
        free_s, _ = answer_s(fresh, max_tokens=len(text), ignore_eos=True)
    assert set(json.loads(text)) == {"n"}
    assert first_s < free_s + MAX_LATER_S


def test_digits_end_although_a_model_wants_more(server: KvikServer) -> None:
    """Digits are made the likeliest tokens by far, so that only their bound ends them."""
    digits = {str(token_id): 50 for token_id in server_digits(server)}
    _, text = answer_s(server, response_format=FORMAT, logit_bias=digits)
    assert max(map(len, re.findall("[0-9]+", text))) == 18
    assert set(json.loads(text)) == {"n"}


def server_digits(server: KvikServer) -> list[int]:
    """Token ids of 0 to 9."""
    ids = []
    for digit in "0123456789":
        status, answer, _ = server.request("POST", "/tokenize", {"model": MODEL, "prompt": digit})
        assert status == 200
        ids.append(answer["tokens"][-1])
    return ids
