"""Start, cancellation, drain and death of the real processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.server import MODEL, KvikServer, eventually


@contextmanager
def open_stream(server: KvikServer, max_tokens: int = 4000) -> Iterator[http.client.HTTPResponse]:
    """A stream of which the first chunk has come; closed at the end of the body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = dict(model=MODEL, prompt="Count:", max_tokens=max_tokens, stream=True, ignore_eos=True, temperature=0)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    try:
        assert answer.status == 200
        assert answer.readline().startswith(b"data: ")
        yield answer
    finally:
        answer.close()
        connection.close()


def test_the_log_tells_the_start_in_order(server: KvikServer) -> None:
    expected = [
        "non-default args: {",
        "Resolved architecture: LlamaForCausalLM",
        "Using max model len 8192",
        "Chunked prefill is enabled with max_num_batched_tokens=2048.",
        "Loading weights took",
        "Model loading took",
        "Available KV cache memory:",
        "CPU KV cache size:",
        "Maximum concurrency for 8,192 tokens per request:",
        "init engine (profile, create kv cache, warmup model) took",
        "Starting kvik API server 0 on http://127.0.0.1:",
        "Available routes are:",
        "Application startup complete.",
    ]
    position = 0
    for text in expected:
        found = next((i for i, line in enumerate(server.lines[position:], position) if text in line), None)
        assert found is not None, f"{text!r} does not follow line {position} of:\n{server.log}"
        position = found
    assert any("(APIServer pid=" in line for line in server.lines)
    assert any("(EngineCore_DP0 pid=" in line for line in server.lines)
    assert not any("WARNING" in line or "Traceback" in line for line in server.lines[: position + 1])


def test_a_closed_connection_frees_its_request(server: KvikServer) -> None:
    with open_stream(server):
        assert server.metric("vllm:num_requests_running") == 1
    assert eventually(lambda: server.metric("vllm:num_requests_running") == 0, within_s=5)
    assert server.metric("vllm:request_success_total", finished_reason="abort") >= 1
    assert server.metric("vllm:kv_cache_usage_perc") == 0


def test_a_closed_connection_frees_a_request_that_does_not_stream(server: KvikServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = dict(model=MODEL, prompt="Count:", max_tokens=4000, ignore_eos=True)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    assert eventually(lambda: server.metric("vllm:num_requests_running") == 1)
    connection.close()
    assert eventually(lambda: server.metric("vllm:num_requests_running") == 0, within_s=5)


def test_sigterm_lets_running_requests_end() -> None:
    with KvikServer("--shutdown-timeout", "30") as server:
        with open_stream(server, max_tokens=60) as answer:
            server.process.send_signal(signal.SIGTERM)
            rest = answer.read().decode()
        assert rest.rstrip().endswith("data: [DONE]")
        assert '"finish_reason":"length"' in rest.replace(" ", "")
        assert server.process.wait(20) == 0


def test_a_second_signal_stops_at_once() -> None:
    with KvikServer("--shutdown-timeout", "60") as server:
        engine = server.engine_pid()
        with open_stream(server):
            server.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: any("Shutdown begins" in line for line in server.lines))
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(10)
        assert eventually(lambda: not Path(f"/proc/{engine}").exists())


def test_the_death_of_the_last_engine_is_told_to_every_stream_and_ends_the_server() -> None:
    with KvikServer("--max-engine-restarts", "0") as server:
        with open_stream(server) as answer:
            os.kill(server.engine_pid(), signal.SIGKILL)
            rest = answer.read().decode()
        assert '"error"' in rest
        assert rest.rstrip().endswith("data: [DONE]")
        assert server.process.wait(20) != 0


def test_memory_of_both_processes_is_within_the_budget(server: KvikServer) -> None:
    def resident(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    assert resident(server.process.pid) < 200e6
    weights_bytes = 270e6
    kv_bytes_in_use_at_most = 200e6
    assert resident(server.engine_pid()) < weights_bytes + kv_bytes_in_use_at_most + 500e6


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_key_guards_the_api(key: str | None) -> None:
    with KvikServer("--api-key", "secret") as server:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        assert server.request("GET", "/v1/models", **headers)[0] == 401
        assert server.request("GET", "/v1/models", Authorization="Bearer secret")[0] == 200
        assert server.request("GET", "/health")[0] == 200
        assert "secret" not in server.log


def test_many_clients_at_once_all_get_their_answer(server: KvikServer) -> None:
    answers: list[int] = []

    def ask(i: int) -> None:
        body = dict(model=MODEL, prompt=f"Number {i} is", max_tokens=8, temperature=0, ignore_eos=True)
        answers.append(server.request("POST", "/v1/completions", body)[1]["usage"]["completion_tokens"])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [8] * 40
