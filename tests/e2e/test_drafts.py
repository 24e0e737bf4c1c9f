"""With drafts, every answer is the one that comes without them, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.server import MODEL, KvikServer

TEXT = (
    "The river rises in the northern hills, runs south through three old towns, and meets the sea behind the long "
    "white beach where the ferries land. In spring the snow melts, the water climbs over the lower meadows, and the "
    "farmers lead their sheep to the chapel on the ridge."
)
QUOTE = f"Text: {TEXT}\n\nThe same text again: {TEXT}\n\nThe same text again:"
CALLS: dict[str, dict[str, Any]] = {
    "greedy": {"prompt": QUOTE, "temperature": 0, "max_tokens": 80, "logprobs": 5},
    "seeded": {"prompt": QUOTE, "temperature": 0.7, "top_p": 0.95, "seed": 5, "max_tokens": 80, "logprobs": 3},
    "penalties": {"prompt": QUOTE, "temperature": 0, "frequency_penalty": 0.2, "max_tokens": 60, "logprobs": 2},
    "stop string": {"prompt": QUOTE, "temperature": 0, "max_tokens": 80, "stop": ["chapel on"]},
    "stop in a word": {"prompt": QUOTE, "temperature": 0, "max_tokens": 80, "stop": ["ridg"], "min_tokens": 3},
    "one token": {"prompt": QUOTE, "temperature": 0, "max_tokens": 1},
    "two answers": {"prompt": QUOTE, "temperature": 0.5, "seed": 1, "n": 2, "max_tokens": 40},
    "echo": {"prompt": QUOTE, "temperature": 0, "max_tokens": 30, "echo": True, "logprobs": 1},
    "prose": {"prompt": "Once upon a time", "temperature": 0.9, "seed": 2, "max_tokens": 40, "logprobs": 0},
}
METHODS = {
    "ngram": {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4, "prompt_lookup_min": 2},
    "suffix": {"method": "suffix", "num_speculative_tokens": 8},
}


@pytest.fixture(scope="module", params=METHODS)
def drafting(request: pytest.FixtureRequest) -> Iterator[KvikServer]:
    with KvikServer("--speculative-config", json.dumps(METHODS[request.param])) as running:
        yield running


def ask(server: KvikServer, call: dict[str, Any]) -> list[tuple[Any, ...]]:
    """All that an answer says, of each choice."""
    body = {"model": MODEL, "return_token_ids": True, **call}
    status, answer, _ = server.request("POST", "/v1/completions", body)
    assert status == 200, answer
    keys = ("text", "token_ids", "logprobs", "finish_reason", "stop_reason")
    return [tuple(choice.get(key) for key in keys) for choice in answer["choices"]]


def test_answers_are_the_same_alone_and_together(server: KvikServer, drafting: KvikServer) -> None:
    plain = {name: ask(server, call) for name, call in CALLS.items()}
    alone = {name: ask(drafting, call) for name, call in CALLS.items()}
    assert alone == plain
    assert drafting.metric("vllm:spec_decode_num_accepted_tokens_total") > 0
    with ThreadPoolExecutor(len(CALLS)) as pool:
        together = dict(zip(CALLS, pool.map(lambda call: ask(drafting, call), CALLS.values()), strict=True))
    assert together == plain


def test_a_stream_brings_the_same_text(server: KvikServer, drafting: KvikServer) -> None:
    texts = []
    for running in (server, drafting):
        with running.client() as client:
            stream = client.completions.create(
                model=MODEL, prompt=QUOTE, temperature=0, max_tokens=60, stream=True, logprobs=1
            )
            chunks = [chunk.choices[0] for chunk in stream if chunk.choices]
        tokens = [token for chunk in chunks if chunk.logprobs is not None for token in chunk.logprobs.tokens or []]
        texts.append(("".join(chunk.text for chunk in chunks), tokens, chunks[-1].finish_reason))
    assert texts[1] == texts[0]


def test_a_configuration_that_does_not_fit_is_refused_at_the_start() -> None:

    command = [sys.executable, "-m", "kvik", "serve", "--speculative-config", '{"method": "medusa"}']
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert "'method' takes ngram or suffix" in run.stdout + run.stderr
