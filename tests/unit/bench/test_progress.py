from __future__ import annotations

import io

from kvik.bench.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal() -> None:
    out = Terminal()
    with Progress(2, out=out) as bar:
        bar.advance()
        bar.advance(has_failed=True)
    assert "2/2" in out.getvalue()
    assert "1 failed" in out.getvalue()
    assert out.getvalue().endswith("\n")


def test_silence_elsewhere() -> None:
    out = io.StringIO()
    with Progress(2, out=out) as bar:
        bar.advance()
    with Progress(2, is_shown=False, out=(terminal := Terminal())) as bar:
        bar.advance()
    assert out.getvalue() == terminal.getvalue() == ""
