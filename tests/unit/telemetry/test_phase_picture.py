from __future__ import annotations

import io
import re

import pytest

from kvik.messages import Phase
from kvik.telemetry.phase_picture import print_phases

PHASES = [
    Phase("config", "APIServer", 10.0, 10.5),
    Phase("load weights", "EngineCore", 11.0, 13.0, num_bytes=2**20),
    Phase("load weights: [red]x[/red].gguf", "EngineCore", 11.0, 12.0),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", ["90", "120", "300"])
def test_a_table_with_bars_and_colours(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    print_phases(PHASES, 9.0, terminal)
    text = terminal.getvalue()
    assert "load weights" in text
    assert "█" in text
    assert "[red]x[/red].gguf" in text, "names are no markup"
    assert "50.0%" not in text
    assert "50%" in text
    assert all(len(re.sub(r"\x1b[^m]*m", "", line).rstrip()) <= int(columns) for line in text.splitlines())


def test_without_a_terminal_there_are_no_colours() -> None:
    plain = io.StringIO()
    print_phases(PHASES, 9.0, plain)
    assert "\x1b" not in plain.getvalue()
    assert "config" in plain.getvalue()
