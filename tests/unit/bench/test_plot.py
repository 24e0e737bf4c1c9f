from __future__ import annotations

from pathlib import Path

import pytest

from kvik.bench import plot
from kvik.bench.answer import Answer
from kvik.errors import ConfigError


def test_without_matplotlib_the_answer_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install matplotlib"):
        plot.check_plot(Path("x.png"))


@pytest.mark.parametrize(("name", "message"), [("x.jpeg", "must end in"), ("no/such/x.png", "there is no folder")])
def test_names_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match=message):
        plot.check_plot(Path(name))


@pytest.mark.parametrize("num_failed", [0, 2, 5])
def test_a_picture_is_written_whatever_failed(tmp_path: Path, num_failed: int) -> None:
    pytest.importorskip("matplotlib")
    answers = [Answer(i * 0.1, 4, 3, 0.1, [0.02, 0.03], 0.15) for i in range(5 - num_failed)]
    answers += [Answer(1.0, error="lost") for _ in range(num_failed)]
    plot.draw(tmp_path / "x.png", answers, "title", "subtitle")
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
