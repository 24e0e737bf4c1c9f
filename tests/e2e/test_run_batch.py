"""`kvik run-batch` with the real engine: killed, stopped and started again, each line is answered once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvik.cli.batch.output import OutputFiles
from support.server import eventually

NUM_LINES, NUM_TOKENS = 9, 32


def chat(custom_id: str, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Tell me about the number {custom_id}"}]
    body = {"messages": messages, "max_tokens": NUM_TOKENS, "temperature": 0, "ignore_eos": True} | body
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def completion(custom_id: str) -> dict[str, Any]:
    body = {"prompt": "One, two, three,", "max_tokens": NUM_TOKENS, "temperature": 0, "ignore_eos": True}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": body}


LINES = [chat(str(i)) if i % 2 else completion(str(i)) for i in range(NUM_LINES)]
UNFIT = chat("unfit", temperature=-1)
EMBEDDING = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": {"input": "Hi"}}
CUT_OFF = '{"custom_id": "cut off", "meth'


@pytest.fixture
def batch(tmp_path: Path) -> list[str]:
    """The command for a file of good lines, one that the server refuses, and two that cannot be asked."""
    good = [json.dumps(line) for line in [UNFIT, *LINES]]
    (tmp_path / "in.jsonl").write_text("\n".join([*good[:2], json.dumps(EMBEDDING), *good[2:], CUT_OFF]) + "\n")
    files = ["-i", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl")]
    return [sys.executable, "-m", "kvik", "run-batch", *files, "--max-num-seqs", "1", "--max-model-len", "512"]


def results(path: Path) -> list[dict[str, Any]]:
    """The whole lines that are there."""
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def stop_after(command: list[str], path: Path, num_lines: int, by: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Run until there are `num_lines` results, then send the signal. What it said, and how it ended."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert eventually(lambda: path.exists() and len(results(path)) >= num_lines, 60)
        process.send_signal(by)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def finish(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def check_complete(path: Path, kept: list[dict[str, Any]]) -> None:
    """Each line once, in OpenAI's shape; those of earlier runs as they were."""
    found = results(path)
    assert found[: len(kept)] == kept
    assert sorted(one["custom_id"] for one in found) == sorted(["unfit", *(str(i) for i in range(NUM_LINES))])
    assert len({one["id"] for one in found}) == len(found)
    by_id = {one["custom_id"]: one for one in found}
    for line in LINES:
        answer = by_id[line["custom_id"]]
        assert set(answer) == {"id", "custom_id", "response", "error"}
        assert set(answer["response"]) == {"status_code", "request_id", "body"}
        assert (answer["response"]["status_code"], answer["error"]) == (200, None)
        assert answer["response"]["body"]["usage"]["completion_tokens"] == NUM_TOKENS
        kind = "chat.completion" if "chat" in line["url"] else "text_completion"
        assert answer["response"]["body"]["object"] == kind
    assert by_id["unfit"]["response"]["status_code"] == 400
    assert "temperature" in by_id["unfit"]["error"]["message"]
    texts = {by_id[line["custom_id"]]["response"]["body"]["choices"][0]["text"] for line in LINES[::2]}
    assert len(texts) == 1  # asked the same, whichever run answered


def test_killed_it_goes_on_with_the_rest(batch: list[str], tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    killed = stop_after(batch, path, 2, signal.SIGKILL)
    assert "10 requests, 0 of them answered before, 2 bad lines" in killed.stdout
    first = results(path)
    assert 2 <= len(first) <= NUM_LINES
    whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    path.write_bytes(b"".join([*whole, b'{"id": "batch_req_0", "custom_id": "7", "resp']))  # killed while it wrote
    done = finish(batch)
    assert done.returncode == 1
    assert f"10 requests, {len(first)} of them answered before, 2 bad lines" in done.stdout
    check_complete(path, first)
    bad = results(tmp_path / "out.jsonl.errors")
    assert [one["custom_id"] for one in bad] == ["e", None]
    assert "line 3: url must be one of /v1/chat/completions" in bad[0]["error"]["message"]
    assert "line 12: no JSON" in bad[1]["error"]["message"]
    content = path.read_bytes()
    again = finish(batch)  # nothing is left: no engine starts
    assert "10 requests, 10 of them answered before" in again.stdout
    assert path.read_bytes() == content


def test_with_a_directory_the_output_appears_when_it_is_complete(batch: list[str], tmp_path: Path) -> None:
    path, directory = tmp_path / "out.jsonl", tmp_path / "parts"
    command = [*batch, "--output-tmp-dir", str(directory)]
    refused = finish(command)
    assert refused.returncode == 2
    assert "is no directory; make it" in refused.stderr
    directory.mkdir()
    part = OutputFiles.of(path, directory).growing
    stopped = stop_after(command, part, 2, signal.SIGTERM)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert "the same command goes on" in stopped.stderr
    assert not path.exists()
    first = results(part)
    assert finish(command).returncode == 1
    check_complete(path, first)
    assert list(directory.iterdir()) == []


def test_a_custom_id_that_comes_twice_is_said_before_anything_is_loaded(tmp_path: Path, batch: list[str]) -> None:
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(line) for line in [*LINES, LINES[3]]))
    refused = finish(batch)
    assert refused.returncode == 2
    assert "custom_id '3' is in lines 4 and 10" in refused.stderr
    assert not (tmp_path / "out.jsonl").exists()
