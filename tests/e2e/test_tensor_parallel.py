"""The server with workers that share the model's heads: answers, and the loss of a worker in the middle of one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.server import MODEL, KvikServer, eventually

ASKED: dict[str, Any] = {"model": MODEL, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 30}
NUM_WORKERS = 3
"""The model has 9 heads."""


@pytest.fixture(scope="module")
def shared() -> Iterator[KvikServer]:
    with KvikServer("--device", "cpu", "--tensor-parallel-size", str(NUM_WORKERS), "--max-model-len", "512") as running:
        yield running


def workers_of(server: KvikServer) -> dict[str, int]:
    """Name -> process id of the engine's workers, as the system has them."""
    children = Path(f"/proc/{server.engine_pid()}/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return {Path(f"/proc/{pid}/comm").read_text().strip(): pid for pid in pids}


def test_it_answers(shared: KvikServer) -> None:
    with shared.client() as client:
        question: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
        answer = client.chat.completions.create(model=MODEL, messages=question, temperature=0, max_tokens=16)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert shared.request("GET", "/plan")[1]["device"]["tensor_parallel_size"] == NUM_WORKERS
    assert "(Worker_TP2 pid=" in shared.log
    assert f"Worker 3 of {NUM_WORKERS} is connected by gloo" in shared.log


def test_a_worker_that_dies_is_an_engine_that_dies(shared: KvikServer) -> None:
    with shared.client() as client:
        whole = client.completions.create(**ASKED).choices[0].text
        workers = workers_of(shared)
        assert sorted(workers) == [f"Worker_TP{rank}" for rank in range(NUM_WORKERS)]
        text = ""
        for number, part in enumerate(client.completions.create(**ASKED, stream=True)):
            text += part.choices[0].text
            if number == 5:
                os.kill(workers["Worker_TP1"], signal.SIGKILL)
    assert text == whole, "the stream goes on with another engine"
    assert f"Worker_TP1 (pid {workers['Worker_TP1']}) has ended: SIGKILL" in shared.log
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers.values()))


def test_what_cannot_be_shared_is_refused_with_what_could_be() -> None:
    with pytest.raises(pytest.fail.Exception, match="2 devices cannot share 9 query heads evenly; this model can have"):
        KvikServer("--tensor-parallel-size", "2").__enter__()
