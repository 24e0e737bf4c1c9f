"""`kvik bench` as a user runs it: against the real server, and the engine in process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.server import KvikServer


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kvik", "bench", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


@pytest.mark.parametrize("backend", ["openai", "openai-chat"])
def test_serve(server: KvikServer, tmp_path: Path, backend: str) -> None:
    run = bench(
        "serve", "--backend", backend, "--port", str(server.port), "--random-input-len", "12",
        "--random-output-len", "6", "--num-prompts", "5", "--max-concurrency", "2", "--num-warmups", "1",
        "--ignore-eos", "--temperature", "0", "--save-result", "--save-detailed", "--result-dir", str(tmp_path),
        "--result-filename", "r.json", "--metadata", "version=7",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Successful requests:                     5" in run.stdout
    assert "Total generated tokens:                  30" in run.stdout
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["completed"], result["failed"], result["version"]) == (5, 0, "7")
    assert result["output_lens"] == [6] * 5
    if backend == "openai":
        assert result["input_lens"] == [12] * 5
    assert result["mean_ttft_ms"] > 0
    assert result["mean_tpot_ms"] > 0


def test_serve_says_why_requests_were_lost(server: KvikServer) -> None:
    run = bench(
        "serve", "--port", str(server.port), "--num-prompts", "2", "--input-len", "4", "--output-len", "1",
        "--temperature", "-1",
    )  # fmt: skip
    assert run.returncode == 1
    assert "Failed requests:                         2" in run.stdout
    assert "2 failed: HTTP 400: " in run.stderr
    assert "temperature" in run.stderr


def test_latency_and_throughput(tmp_path: Path) -> None:
    small = ["--max-model-len", "64", "--input-len", "4", "--output-len", "3"]
    latency = bench("latency", *small, "--batch-size", "2", "--num-iters", "2", "--num-iters-warmup", "1",
                    "--output-json", str(tmp_path / "l.json"))  # fmt: skip
    assert latency.returncode == 0, latency.stderr
    assert len(json.loads((tmp_path / "l.json").read_text())["latencies"]) == 2
    throughput = bench("throughput", *small, "--num-prompts", "3")
    assert throughput.returncode == 0, throughput.stderr
    assert "Total num prompt tokens:  12\nTotal num output tokens:  9" in throughput.stdout
