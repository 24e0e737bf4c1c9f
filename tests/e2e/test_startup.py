"""A start as clients see it, from the first second on; and what is known of it afterwards."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kvik.messages import Phase
from kvik.telemetry.timeline import covered_s
from support.server import KvikServer, eventually, free_port

PATHS = ("/live", "/startup", "/ready", "/v1/models")


@dataclass
class Poller:
    """Asks the paths in turn, a connection each, from before the server's start until it is ready."""

    port: int
    answers: list[tuple[str, int, Any]] = field(default_factory=list)
    num_refused_after_first: int = 0
    first_s: float = 0.0
    ready_s: float = 0.0

    def run(self) -> None:
        deadline_s = time.monotonic() + 60
        while not self.ready_s and time.monotonic() < deadline_s:
            for path in PATHS:
                self._ask(path)
            threading.Event().wait(0.005)  # the start is to have the machine for itself

    def _ask(self, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            self.answers.append((path, answer.status, json.loads(answer.read())))
        except ConnectionRefusedError:
            self.num_refused_after_first += bool(self.answers)
            return
        finally:
            connection.close()
        self.first_s = self.first_s or time.monotonic()
        if path == "/ready" and answer.status == 200:
            self.ready_s = time.monotonic()

    def bodies(self, path: str, status: int) -> list[Any]:
        return [body for asked, got, body in self.answers if (asked, got) == (path, status)]


@dataclass
class Started:
    server: KvikServer
    poller: Poller
    exec_s: float
    trace: Path


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    trace = tmp_path_factory.mktemp("trace") / "start.json"
    poller = Poller(free_port())
    polling = threading.Thread(target=poller.run)
    polling.start()
    exec_s = time.monotonic()
    with KvikServer("--startup-trace", str(trace), port=poller.port) as server:
        polling.join()
        yield Started(server, poller, exec_s, trace)


def test_it_answers_from_the_first_second(started: Started) -> None:
    poller = started.poller
    assert poller.num_refused_after_first == 0
    assert poller.first_s - started.exec_s < 0.6 * (poller.ready_s - started.exec_s)
    assert len(poller.bodies("/live", 200)) == len([a for a in poller.answers if a[0] == "/live"])
    assert {"status": "starting"} in poller.bodies("/live", 200)
    assert {body["status"] for body in poller.bodies("/ready", 503)} == {"starting"}
    assert poller.bodies("/ready", 200) == [{"status": "serving"}]
    refused = poller.bodies("/v1/models", 503)
    assert refused
    assert all(body["error"]["code"] == 503 for body in refused)


def test_its_progress_can_be_watched(started: Started) -> None:
    reports = [body for body in started.poller.bodies("/startup", 200) if body["status"] == "starting"]
    seen = list(dict.fromkeys(body["phase"] for body in reports))
    assert "imports" in seen
    elapsed = [body["elapsed_s"] for body in reports]
    assert elapsed == sorted(elapsed)
    left = [body["estimated_s_left"] for body in reports]
    assert all(seconds is not None and seconds >= 0 for seconds in left)
    assert left[-1] < left[0]
    assert any(p["end_s"] is None for body in reports for p in body["phases"])


def test_phases_explain_the_start(started: Started) -> None:
    """Of the time from exec to ready at least 95 %, as this process saw both."""
    report = started.server.request("GET", "/startup")[1]
    assert (report["status"], report["phase"], report["estimated_s_left"]) == ("ready", None, None)
    phases = [Phase(p["name"], p["process"], p["start_s"], p["end_s"]) for p in report["phases"]]
    assert all(p.end_s is not None and 0 <= p.start_s <= p.end_s <= report["elapsed_s"] + 0.001 for p in phases)
    covered = covered_s(phases)
    wall_s = started.poller.ready_s - started.exec_s
    print(f"covered {covered:.3f} of {report['elapsed_s']:.3f} s by its own clock, {wall_s:.3f} s by ours")
    assert covered >= 0.95 * report["elapsed_s"]
    assert report["elapsed_s"] <= wall_s + 0.02
    assert covered >= 0.95 * wall_s - 0.05, "and the poller sees it late, by as long as its own turns take"


def test_every_phase_has_its_name(started: Started) -> None:
    phases = started.server.request("GET", "/startup")[1]["phases"]
    names: dict[str, list[str]] = {}
    for phase in phases:
        names.setdefault(phase["process"], []).append(phase["name"])
    assert set(names) == {"APIServer", "EngineCore_DP0"}
    assert names["APIServer"][:5] == ["interpreter", "arguments", "config", "bind socket", "spawn engine"]
    assert names["APIServer"][-3:] == ["connect engine", "routes", "listen"]
    assert [n for n in names["EngineCore_DP0"] if ": " not in n] == [
        "interpreter", "imports", "platform", "load weights", "profile", "reserve KV cache", "capture", "warm up",
        "scheduler", "settle",
    ]  # fmt: skip
    (shard,) = [p for p in phases if p["name"].startswith("load weights: ")]
    assert shard["name"].endswith(".gguf")
    assert shard["num_bytes"] > 50_000_000


def test_the_log_has_the_table(started: Started) -> None:
    assert eventually(lambda: "Phases of the start:" in started.server.log)
    assert eventually(lambda: any(" total " in line for line in started.server.lines))
    assert any("load weights" in line and "###" in line for line in started.server.lines)


def test_the_trace_is_written(started: Started) -> None:
    assert eventually(lambda: started.trace.is_file() and started.trace.read_text().endswith("}"))
    events = json.loads(started.trace.read_text())["traceEvents"]
    assert {"imports", "listen", "warm up"} <= {event["name"] for event in events}
    assert all(event["dur"] >= 0 for event in events if event["ph"] == "X")


def test_a_replaced_engine_is_a_start_of_its_own(started: Started) -> None:
    server = started.server
    pid = server.engine_pid()
    before = server.request("GET", "/startup")[1]
    os.kill(pid, signal.SIGKILL)
    seen: list[Any] = []
    not_ready: list[Any] = []

    def is_back() -> bool:
        report = server.request("GET", "/startup")[1]
        seen.append(report)
        status, body, _ = server.request("GET", "/ready")
        not_ready.extend([body] if status == 503 else [])
        return bool(report["recoveries"]) and report["status"] == "ready"

    assert eventually(is_back, within_s=30)
    during = [report for report in seen if report["status"] == "recovering" and report["phase"]]
    assert "imports" in {report["phase"] for report in during}
    assert {"status": "recovering", "phase": "imports"}.items() <= not_ready[len(not_ready) // 2].items()
    assert all(report["estimated_s_left"] >= 0 for report in during)
    after = seen[-1]
    assert after["phases"] == before["phases"]
    (recovery,) = after["recoveries"]
    assert "signal 9" in recovery["reason"]
    assert recovery["end_s"] > recovery["start_s"] > before["elapsed_s"]
    assert "warm up" in {p["name"] for p in recovery["phases"]}


def test_what_cannot_be_written_is_a_warning() -> None:
    with KvikServer("--startup-trace", "/no/such/trace.json", env={"KVIK_CACHE_ROOT": "/dev/null/x"}) as server:
        assert eventually(lambda: "--startup-trace /no/such/trace.json cannot be written" in server.log)
        assert eventually(lambda: "KVIK_CACHE_ROOT" in server.log)
        assert server.request("GET", "/health")[0] == 200


def test_a_start_that_fails_leaves_its_trace(tmp_path: Path) -> None:
    """Too little memory for the KV cache: found out after the weights were loaded."""
    trace = tmp_path / "trace.json"
    command = KvikServer("--startup-trace", str(trace), "--kv-cache-memory-bytes", "1000").command
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "no memory is left for the KV cache" in ended.stderr
    assert "load weights" in {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
