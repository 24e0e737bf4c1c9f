"""Sleep of a real server: memory goes back to the system, and every answer afterwards is the one of before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from kvik.modelfile import embedded_model_path
from support.server import KvikServer, eventually

MIB = 1 << 20
PROMPT = "The lighthouse keeper wrote in the log of the day: " * 40
QUESTION = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0, "logprobs": 3, "ignore_eos": True}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A way to the model that can be taken away."""
    link = tmp_path_factory.mktemp("model") / "model.gguf"
    link.symlink_to(embedded_model_path())
    return link


@pytest.fixture(scope="module")
def sleeper(checkpoint: Path) -> Iterator[KvikServer]:
    flags = (
        str(checkpoint),
        "--enable-sleep-mode",
        "--max-model-len",
        "4096",
        "--kv-cache-memory-bytes",
        "256M",
        "--dtype",
        "float32",
    )
    with KvikServer(*flags, "--enable-prompt-tokens-details", env={"KVIK_SERVER_DEV_MODE": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def client(sleeper: KvikServer) -> Iterator[OpenAI]:
    with sleeper.client() as client:
        yield client


@pytest.fixture(scope="module")
def model(client: OpenAI) -> str:
    return client.models.list().data[0].id


def resident_bytes(server: KvikServer) -> int:
    pages = int(Path(f"/proc/{server.engine_pid()}/statm").read_text().split()[1])
    return pages * 4096


def ask(server: KvikServer, path: str, body: Any = None) -> Any:
    status, answer, _ = server.request("POST", path, body)
    assert status == 200, answer
    return answer


def answer_of(server: KvikServer, **more: Any) -> tuple[Any, int]:
    """The choice, and how much of the prompt was cached."""
    body = ask(server, "/v1/completions", QUESTION | more)
    return body["choices"][0], body["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.parametrize("level", [1, 2])
def test_memory_goes_and_answers_stay(sleeper: KvikServer, level: int) -> None:
    before, _ = answer_of(sleeper)
    assert answer_of(sleeper)[1] > 0
    resident = resident_bytes(sleeper)
    assert ask(sleeper, f"/sleep?level={level}") == {"status": "sleeping", "level": level}
    weights = ask(sleeper, "/collective_rpc", {"method": "get_facts"})["results"][0]["weights_bytes"]
    freed = resident - resident_bytes(sleeper)
    assert freed > (weights * 0.95 if level == 2 else 15 * MIB)
    assert sleeper.metric("vllm:engine_sleep_state", sleep_state="discard_all") == (level == 2)
    status, refused, headers = sleeper.request("POST", "/v1/completions", QUESTION)
    assert (status, refused["error"]["type"]) == (503, "ServiceUnavailableError")
    assert "retry-after" in headers
    assert sleeper.request("GET", "/health")[0] == 200
    assert ask(sleeper, "/wake_up") == {"status": "awake", "tags": None}
    after, num_cached = answer_of(sleeper)
    assert (after, num_cached) == (before, 0)


def test_without_its_checkpoint_it_sleeps_on_and_says_why(sleeper: KvikServer, checkpoint: Path) -> None:
    before, _ = answer_of(sleeper)
    ask(sleeper, "/sleep?level=2")
    target = checkpoint.readlink()
    checkpoint.unlink()
    status, answer, _ = sleeper.request("POST", "/wake_up")
    assert (status, answer["error"]["type"]) == (500, "InternalServerError")
    assert answer["error"]["message"].startswith("the engine sleeps on and may be woken again: ")
    assert "model.gguf" not in answer["error"]["message"], "paths are for the log"
    assert str(checkpoint) in sleeper.log
    assert sleeper.request("GET", "/is_sleeping")[1] == {"is_sleeping": True}
    checkpoint.symlink_to(target)
    assert ask(sleeper, "/wake_up")["status"] == "awake"
    assert answer_of(sleeper)[0] == before


def test_a_stream_that_is_kept_goes_on(sleeper: KvikServer, client: OpenAI, model: str) -> None:
    more = {"max_tokens": 60, "logprobs": None}
    whole, _ = answer_of(sleeper, **more)
    stream = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=60,
        temperature=0, stream=True, extra_body={"ignore_eos": True},
    )  # fmt: skip
    pieces = [next(stream).choices[0].text for _ in range(3)]
    assert ask(sleeper, "/sleep?level=2&mode=keep")["status"] == "sleeping"
    assert sleeper.request("GET", "/is_sleeping")[1] == {"is_sleeping": True}
    assert ask(sleeper, "/wake_up?tags=weights") == {"status": "sleeping", "tags": ["weights"]}
    assert ask(sleeper, "/wake_up?tags=kv_cache")["status"] == "awake"
    pieces += [chunk.choices[0].text for chunk in stream]
    assert "".join(pieces) == whole["text"]


def test_released_memory_fills_again(sleeper: KvikServer) -> None:
    before, _ = answer_of(sleeper)
    resident = resident_bytes(sleeper)
    assert ask(sleeper, "/release_kv_cache_memory") == {"status": "kv_cache_released"}
    assert resident - resident_bytes(sleeper) > 15 * MIB
    after, num_cached = answer_of(sleeper)
    assert (after, num_cached) == (before, 0)


def test_a_reset_and_a_pause(sleeper: KvikServer, client: OpenAI, model: str) -> None:
    before, _ = answer_of(sleeper)
    assert ask(sleeper, "/reset_prefix_cache") == {"success": True}
    assert answer_of(sleeper) == (before, 0)
    assert ask(sleeper, "/pause") == {"status": "paused"}
    with client.completions.with_streaming_response.create(model=model, prompt="Hi", max_tokens=2, stream=True) as held:
        assert eventually(lambda: sleeper.request("GET", "/is_paused")[1] == {"is_paused": True})
        assert ask(sleeper, "/resume") == {"status": "resumed"}
        assert held.read().endswith(b"data: [DONE]\n\n")


def test_the_server_tells_of_itself(sleeper: KvikServer) -> None:
    info = sleeper.request("GET", "/server_info?config_format=json")[1]
    assert info["vllm_config"]["model"]["enable_sleep_mode"] is True
    assert info["vllm_config"]["facts"]["num_blocks"] > 0
    assert info["vllm_config"]["server"]["dev_mode"] is True
    assert info["vllm_env"]["KVIK_SERVER_DEV_MODE"] == "1"
    assert "enable_sleep_mode=True" in sleeper.request("GET", "/server_info")[1]["vllm_config"]
    assert ask(sleeper, "/collective_rpc", {"method": "check_integrity"}) == {"results": ["ok"]}
    assert ask(sleeper, "/collective_rpc", {"method": "describe"})["results"][0]["running"] == []


def test_all_requests_can_be_ended(sleeper: KvikServer, client: OpenAI, model: str) -> None:
    stream = client.completions.create(
        model=model, prompt="Count: one", max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
    )
    name = next(stream).id
    assert ask(sleeper, "/abort_requests", {"request_ids": [name, "unknown"]}) == {"status": "aborted", "aborted": 1}
    *_, last = stream
    assert last.choices[0].finish_reason == "abort"
