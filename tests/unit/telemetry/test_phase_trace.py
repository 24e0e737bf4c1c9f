from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.messages import Phase
from kvik.telemetry.phase_trace import lanes, trace_of, write_trace

PHASES = [
    Phase("config", "APIServer", 10.0, 10.5),
    Phase("import", "APIServer", 11.0, 13.0),
    Phase("tokenizer", "APIServer", 12.0, 14.0),
    Phase("load weights", "EngineCore", 11.0, 13.0, num_bytes=77),
    Phase("load weights: a", "EngineCore", 11.0, 12.0),
    Phase("warm up", "EngineCore", 13.0, None),
]


def test_a_file_that_trace_viewers_read(tmp_path: Path) -> None:
    write_trace(str(tmp_path / "trace.json"), PHASES, began_s=9.0)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert sorted(names.values()) == ["APIServer", "EngineCore"]
    spans = {e["name"]: e for e in events if e["ph"] != "M"}
    assert len(spans) == len(PHASES)
    assert (spans["config"]["ph"], spans["config"]["ts"], spans["config"]["dur"]) == ("X", 1e6, 5e5)
    assert spans["load weights"]["args"] == {"bytes": 77}
    assert names[spans["load weights"]["pid"]] == "EngineCore"
    assert spans["import"]["tid"] != spans["tokenizer"]["tid"], "they overlap"
    assert spans["load weights"]["tid"] == spans["load weights: a"]["tid"], "one is a part of the other"
    assert spans["warm up"]["ph"] == "B"
    assert "dur" not in spans["warm up"]


@pytest.mark.parametrize("path", ["/dev/full", "/no/such/folder/trace.json", "."])
def test_a_file_that_cannot_be_written_is_a_warning(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        write_trace(path, PHASES, began_s=9.0)
    assert f"--startup-trace {path} cannot be written" in caplog.text


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), max_size=10))
def test_on_one_line_phases_are_nested_or_apart(spans: list[tuple[int, int]]) -> None:
    phases = [Phase(str(i), "p", float(s), float(s + n)) for i, (s, n) in enumerate(spans)]
    found = lanes(phases)
    assert sorted(p.name for lane in found for p in lane) == sorted(p.name for p in phases)
    for lane in found:
        for i, a in enumerate(lane):
            for b in lane[i + 1 :]:
                assert a.end_s is not None
                assert b.end_s is not None
                assert a.end_s <= b.start_s or (a.start_s <= b.start_s and b.end_s <= a.end_s)


def test_nothing_is_a_trace_too() -> None:
    assert trace_of([], 0.0)["traceEvents"] == []
