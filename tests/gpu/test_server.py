"""The server on a GPU, as a user starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvik.platforms.gpus import find_gpus
from support.server import MODEL, KvikServer

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


def serve(caches: Path, *flags: str) -> KvikServer:
    return KvikServer(
        "--device", "cuda", "--gpu-memory-utilization", "0.3", *flags, env={"KVIK_CACHE_ROOT": str(caches)}
    )


def compiled(caches: Path) -> set[Path]:
    return set((caches / "triton").rglob("*.cubin"))


def test_it_answers_and_says_what_computes(caches: Path) -> None:
    with serve(caches) as server, server.client() as client:
        question = [{"role": "user", "content": "What is the capital of France?"}]
        whole = client.chat.completions.create(model=MODEL, messages=question, temperature=0, max_tokens=16)
        parts = client.chat.completions.create(
            model=MODEL, messages=question, temperature=0, max_tokens=16, stream=True
        )
        text = whole.choices[0].message.content
        assert "Paris" in text
        assert "".join(chunk.choices[0].delta.content or "" for chunk in parts if chunk.choices) == text
        plan = server.request("GET", "/plan")[1]
        assert plan["device"]["kind"] == "cuda"
        for said in ("Computing on GPU", "Using Triton kernels on", "Graph capturing finished", "GPU KV cache size"):
            assert said in server.log
    assert compiled(caches)


def test_a_second_start_compiles_nothing(caches: Path) -> None:
    with serve(caches):
        pass
    before = compiled(caches)
    with serve(caches) as server, server.client() as client:
        client.completions.create(model=MODEL, prompt="One, two,", max_tokens=8, temperature=0.7, logprobs=2)
    assert compiled(caches) == before


def test_memory_stays_within_its_share(caches: Path) -> None:
    before = find_gpus().visible[0]
    with serve(caches) as server, server.client() as client:
        client.completions.create(model=MODEL, prompt=["count: 1 2 3"] * 32, max_tokens=64)
        held = before.free_bytes - find_gpus().visible[0].free_bytes
    assert held <= 0.3 * before.total_bytes + (256 << 20)


def test_a_share_that_is_not_free_is_refused_with_a_number(caches: Path) -> None:
    with serve(caches, "--gpu-memory-utilization", "0.6"), pytest.raises(pytest.fail.Exception, match="are free"):
        serve(caches, "--gpu-memory-utilization", "0.6").__enter__()
