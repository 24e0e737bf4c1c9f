"""A request's answer does not depend on its neighbours, on chunking, on preemption or on the prefix cache."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.server import MODEL, KvikServer

NUM_NEIGHBOURS = 30  # beside each other of the two that are looked at


@pytest.fixture(scope="module")
def cramped() -> Iterator[KvikServer]:
    """Small steps and few blocks: long prompts are chunked, and running requests are preempted."""
    flags = "--max-num-batched-tokens 256 --max-num-seqs 64 --num-gpu-blocks-override 190 --max-model-len 1024"
    with KvikServer(*flags.split()) as running:
        yield running


def ask(server: KvikServer, prompt: list[int], **fields: Any) -> tuple[list[int], list[float]]:
    """Token ids of the answer and the log probabilities of the 5 best at each position, all bits of them."""
    body = dict(model=MODEL, prompt=prompt, max_tokens=48, ignore_eos=True, logprobs=5, return_token_ids=True) | fields
    status, answer, _ = server.request("POST", "/v1/completions", body)
    assert status == 200, answer
    choice = answer["choices"][0]
    return choice["token_ids"], [v for top in choice["logprobs"]["top_logprobs"] for v in sorted(top.values())]


WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "seeded": {"temperature": 0.9, "top_p": 0.95, "top_k": 40, "seed": 11},
}


def test_alone_and_among_31_others(cramped: KvikServer) -> None:
    draw = random.Random(3)
    prompt = [draw.randrange(100, 49000) for _ in range(300)]
    neighbours = [[draw.randrange(100, 49000) for _ in range(draw.randrange(20, 400))] for _ in range(NUM_NEIGHBOURS)]
    alone = {way: ask(cramped, prompt, **fields, cache_salt=f"{way}, alone") for way, fields in WAYS.items()}

    preemptions_before = cramped.metric("vllm:num_preemptions_total")
    with ThreadPoolExecutor(NUM_NEIGHBOURS + len(WAYS)) as pool:
        long = {"temperature": 0.7, "max_tokens": 120}
        others = [pool.submit(ask, cramped, p, seed=i, **long) for i, p in enumerate(neighbours)]
        crowded = {way: pool.submit(ask, cramped, prompt, **fields, cache_salt=way) for way, fields in WAYS.items()}
        assert all(len(other.result()[0]) == 120 for other in others)
    assert cramped.metric("vllm:num_preemptions_total") > preemptions_before

    for way, answer in crowded.items():
        assert answer.result() == alone[way], way


def test_a_cached_prefix_changes_no_bit(cramped: KvikServer) -> None:
    draw = random.Random(4)
    prompt = [draw.randrange(100, 49000) for _ in range(200)]
    cold = ask(cramped, prompt, temperature=0)
    hits_before = cramped.metric("vllm:prefix_cache_hits_total")
    warm = ask(cramped, prompt, temperature=0)
    assert cramped.metric("vllm:prefix_cache_hits_total") >= hits_before + 192
    assert warm == cold


def test_the_same_with_int8_keys_and_values_in_blocks_of_32() -> None:
    """A prompt of 300 tokens in chunks of 128: alone, from the prefix cache, and among neighbours."""
    draw = random.Random(5)
    prompts = [[draw.randrange(100, 49000) for _ in range(draw.randrange(60, 200))] for _ in range(7)]
    prompt = [draw.randrange(100, 49000) for _ in range(300)]
    flags = "--kv-cache-dtype int8 --block-size 32 --max-num-batched-tokens 128 --max-model-len 1024 --max-num-seqs 32"
    with KvikServer(*flags.split()) as server, ThreadPoolExecutor(len(prompts)) as pool:
        cold = ask(server, prompt, temperature=0)
        hits_before = server.metric("vllm:prefix_cache_hits_total")
        warm = ask(server, prompt, temperature=0)
        assert server.metric("vllm:prefix_cache_hits_total") >= hits_before + 288
        others = [pool.submit(ask, server, p, temperature=0.7, seed=i) for i, p in enumerate(prompts)]
        crowded = ask(server, prompt, temperature=0, cache_salt="crowded")
        assert all(len(other.result()[0]) == 48 for other in others)
    assert cold == warm == crowded
