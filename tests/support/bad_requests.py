"""Requests that are wrong, one of each kind that a client can send: (path, body). All deserve a status of 4xx."""

from __future__ import annotations

import itertools
from typing import Any

from support.server import MODEL

Request = tuple[str, Any]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

WRONG_FIELDS: dict[str, list[Any]] = {
    "temperature": [3, -0.1, "hot", [1]],
    "top_p": [0, 1.5, "x"],
    "top_k": [-2, 1.5, 2**70],
    "min_p": [2, -1],
    "n": [0, -1, "two", 10**6],
    "max_tokens": [0, -1, 10**9, "many"],
    "min_tokens": [-1, 10**6],
    "seed": ["x", 2**64],
    "stop": [[""], list("abcde"), 5, ["x" * 5000]],
    "stop_token_ids": [[-1], ["a"], list(range(5000)), ["a"] * 100_000],
    "presence_penalty": [3], "frequency_penalty": [-3], "repetition_penalty": [0, -1],
    "logit_bias": [{"abc": 1}, {"999999": 1}, {"5": "x"}, {str(i): 1 for i in range(5000)}],
    "allowed_token_ids": [[], [10**9], "all"],
    "bad_words": [[""], ["x"] * 1000],
    "prompt_logprobs": [-2, 10**6],
    "logprob_token_ids": [[1] * 200],
    "stream": ["maybe"],
    "stream_options": [{"include_usage": True}, 5],
    "response_format": [{"type": "json_schema"}, {"type": "nonsense"}, 7,
                        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}],
    "structured_outputs": [{}, {"regex": "("}, {"json": {"type": 5}}, {"choice": []}, {"grammar": "root ::= ("},
                           {"regex": "a", "choice": ["b"]}],
    "cache_salt": ["", "a/b", "x" * 1000],
    "priority": ["high"],
    "truncate_prompt_tokens": [-2, "all"],
    "repetition_detection": [{"max_pattern_size": 10**6}, {"min_count": 1, "max_pattern_size": 2}],
    "model": ["gpt-9", 5],
}  # fmt: skip

WRONG_CHATS: dict[str, list[Any]] = {
    "messages": [[], "hello", [5], [{}], [{"role": 5}], [{"role": "user", "content": 5}],
                 [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}],
                 [{"role": "user", "content": "x " * 100_000}]],
    "top_logprobs": [5, 21],
    "tools": [[], [5], [{"type": "function"}], [TOOL] * 10_000],
    "tool_choice": ["auto", "sometimes", {"type": "function", "function": {"name": "g"}}],
    "reasoning_effort": ["huge"],
    "chat_template": ["{{ 7 * 7 }}"],
    "chat_template_kwargs": [{"messages": []}, 5],
    "continue_final_message": [True],
    "modalities": [["audio"]],
    "audio": [{"voice": "x"}],
}  # fmt: skip

WRONG_BODIES: list[Any] = [
    b"", b"{", b"[]", b"null", b'{"model":', b"\xff\xfe", b'{"messages":' + b"[" * 5000, b'{"n": NaN}', b"[" * 10**6,
]  # fmt: skip


def bad_requests() -> list[Request]:
    good_chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    good_completion = {"model": MODEL, "prompt": "Hi", "max_tokens": 2}
    found: list[Request] = []
    for name, values in itertools.chain(WRONG_FIELDS.items(), WRONG_CHATS.items()):
        found += [(CHAT, good_chat | {name: value}) for value in values]
    for name, values in WRONG_FIELDS.items():
        found += [(COMPLETIONS, good_completion | {name: value}) for value in values]
    wrong_prompts = ["", [], [5, "x"], [-1], [10**9], [5] * 9000, ["x"] * 5000, {"a": 1}, 5, None, [[]]]
    found += [(COMPLETIONS, good_completion | {"prompt": prompt}) for prompt in wrong_prompts]
    found += [
        (COMPLETIONS, good_completion | {"prompt_embeds": "abc"}),
        (COMPLETIONS, good_completion | {"suffix": "x"}),
    ]
    found += [(path, body) for path in (CHAT, COMPLETIONS) for body in WRONG_BODIES]
    found += [("/tokenize", {}), ("/tokenize", {"prompt": 5}), ("/detokenize", {"tokens": [-1]}), ("/detokenize", {})]
    return found
