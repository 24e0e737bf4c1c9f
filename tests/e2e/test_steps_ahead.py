"""With `--async-scheduling`: ends that are found when one token more is under way, and steps that fail there.

`test_async_scheduling.py` has the answers of all kinds of requests, and of preempted ones.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.faults import armed
from support.mixed_load import Record, mixed_requests, stream_all
from support.server import MODEL, KvikServer, eventually

STORY = "Once upon a time, in a town by the sea,"
SCHEMA = {
    "type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"], "additionalProperties": False,
}  # fmt: skip
CALLS: dict[str, dict[str, Any]] = {
    "greedy": {"max_tokens": 30},
    "two tokens": {"max_tokens": 2},
    "seeded": {"temperature": 0.9, "top_p": 0.9, "seed": 4},
    "stop string": {"stop": [" the"]},
    "included stop string": {"stop": ["little"], "include_stop_str_in_output": True},
    "end of text": {"prompt": "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n", "max_tokens": 100},
    "echo": {"echo": True, "logprobs": 1, "max_tokens": 5},
    "bad words": {"bad_words": ["was"]},
    "schema": {"structured_outputs": {"json": SCHEMA}, "max_tokens": 30},
}
TESTS = str(Path(__file__).parents[1])
FAULT_AT = 40


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """There once the fault of the last test has happened."""
    return tmp_path_factory.mktemp("steps-ahead") / "done"


@pytest.fixture(scope="module")
def ahead(done: Path) -> Iterator[KvikServer]:
    path = os.pathsep.join(filter(None, (TESTS, os.environ.get("PYTHONPATH"))))
    env = {"KVIK_FAULT": f"execute:{FAULT_AT}", "KVIK_FAULT_DONE": str(done), "PYTHONPATH": path}
    with KvikServer("--async-scheduling", "--recovery-queue", env=env, module="support.faulty_kvik") as running:
        assert "Asynchronous scheduling is enabled" in running.log
        yield running


def ask(server: KvikServer, call: dict[str, Any]) -> list[Any]:
    """All that an answer says, and what it is said to have cost."""
    body = {"model": MODEL, "prompt": STORY, "temperature": 0, "max_tokens": 16, "return_token_ids": True} | call
    status, answer, _ = server.request("POST", "/v1/completions", body)
    assert status == 200, answer
    keys = ("text", "token_ids", "logprobs", "finish_reason", "stop_reason")
    told = [[choice.get(key) for key in keys] for choice in answer["choices"]]
    return [*told, answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]]


@pytest.fixture(scope="module")
def plain(server: KvikServer) -> dict[str, list[Any]]:
    answers = {name: ask(server, call) for name, call in CALLS.items()}
    assert answers["stop string"][0][3:] == ["stop", " the"]
    assert answers["end of text"][0][3:] == ["stop", None], "the model says when it is over"
    return answers


def test_ends_are_where_they_are_without_steps_ahead(ahead: KvikServer, plain: dict[str, list[Any]]) -> None:
    assert {name: ask(ahead, call) for name, call in CALLS.items()} == plain
    with ThreadPoolExecutor(len(CALLS)) as pool:
        together = dict(zip(CALLS, pool.map(lambda call: ask(ahead, call), CALLS.values()), strict=True))
    assert together == plain


def test_what_was_computed_too_often_is_in_no_cache(server: KvikServer, ahead: KvikServer) -> None:
    """A conversation goes on from an answer that had ended when one token more was under way already."""
    first = ask(ahead, CALLS["end of text"])[0][0]
    call = {"prompt": f"{CALLS['end of text']['prompt']}{first}<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"}
    assert ask(ahead, call) == ask(server, call)


def test_a_stream_that_is_left_frees_what_it_held_and_changes_no_other(
    ahead: KvikServer, plain: dict[str, list[Any]]
) -> None:
    with ThreadPoolExecutor(1) as pool, ahead.client() as client:
        beside = pool.submit(ask, ahead, CALLS["greedy"])
        stream = client.completions.create(model=MODEL, prompt=STORY, max_tokens=1000, temperature=0, stream=True)
        for _, _ in zip(range(5), stream, strict=False):
            pass
        stream.close()
        assert beside.result() == plain["greedy"]
    assert eventually(lambda: ahead.metric("vllm:num_requests_running") == 0)
    assert eventually(lambda: ahead.metric("vllm:kv_cache_usage_perc") == 0)
    assert eventually(lambda: ahead.metric("vllm:request_success_total", finished_reason="abort") == 1)


def test_streams_go_on_after_a_step_that_failed_under_way(server: KvikServer, ahead: KvikServer, done: Path) -> None:
    """The last of this file: the fault happens once, and ends the engine."""
    undisturbed = told_of_streams(server)
    armed(done).touch()
    assert told_of_streams(ahead) == undisturbed
    assert done.exists(), "the fault has not happened"
    assert ask(ahead, CALLS["seeded"]) == ask(server, CALLS["seeded"]), "what it leaves behind"


def told_of_streams(server: KvikServer) -> list[Record]:
    """Without what they found in the prefix cache, which depends on what was asked before."""
    records = asyncio.run(stream_all(server.port, mixed_requests(6)))
    for record in records:
        (record.usage or {}).pop("prompt_tokens_details", None)
    return records
