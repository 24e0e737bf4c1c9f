from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from fakes.tiny_config import tiny_config
from kvik.messages import Phase
from kvik.server.starting.record import StartRecord
from kvik.telemetry.start_memory import StartMemory

EARLIER = [Phase("interpreter", "APIServer", 5.0, 6.0), Phase("arguments", "APIServer", 6.0, 7.0)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KVIK_CACHE_ROOT", str(tmp_path / "cache"))
    return tmp_path / "cache"


def start(record: StartRecord) -> None:
    """What the launcher does with a record."""

    async def main() -> None:
        on_ready = record.last_phase("listen")
        assert record.timeline.current_phase == "listen"
        on_ready()

    record.recall()
    record.timeline.observe(Phase("imports", "EngineCore_DP0", 7.0, 9.5))
    asyncio.run(main())
    record.close()


def test_a_start_is_told_written_and_remembered(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = StartRecord(tiny_config(), str(tmp_path / "trace.json"), EARLIER)
    with caplog.at_level(logging.INFO):
        start(record)
    assert [p.name for p in record.timeline.phases] == ["interpreter", "arguments", "imports", "listen"]
    assert record.timeline.report("ready").phases[1].start_s == 1.0
    assert "Phases of the start:\nphase" in caplog.text
    names = {event["name"] for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"interpreter", "imports", "listen"} <= names
    (remembered,) = json.loads((cache / "starts.json").read_text())["starts"].values()
    assert remembered["imports"] == 2.5


def test_the_next_start_expects_what_this_one_took() -> None:
    start(StartRecord(tiny_config(), None, EARLIER))
    again = StartRecord(tiny_config(), None, EARLIER)
    unknown_s = again.timeline.estimated_s_left
    again.recall()
    assert again.timeline.estimated_s_left == pytest.approx(2.5, abs=0.2)
    assert unknown_s != again.timeline.estimated_s_left


def test_a_start_that_came_to_nothing_leaves_its_trace_alone(tmp_path: Path) -> None:
    record = StartRecord(tiny_config(), str(tmp_path / "trace.json"), EARLIER)
    record.recall()
    record.close()
    names = {event["name"] for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert "arguments" in names
    assert StartMemory()._read().starts == {}


def test_on_a_terminal_the_table_has_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    start(StartRecord(tiny_config(), None, EARLIER))
    assert "\N{FULL BLOCK}" in capsys.readouterr().err
