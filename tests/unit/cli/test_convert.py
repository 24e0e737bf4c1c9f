"""`kvik convert`: its words; what it writes is the convert room's to test."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvik.cli.convert import run
from kvik.errors import ConfigError, ModelFileError


def test_help_names_all_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("kvik convert MODEL", "--quantization", "{int8,int4}", "--output", "--force"))


@pytest.mark.parametrize(
    "words",
    [[], ["model"], ["model", "-q", "int8"], ["model", "-o", "out"], ["a", "b", "-q", "int8", "-o", "out"]],
)
def test_model_quantization_and_output_are_wanted(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="wants one model, --quantization and --output"):
        run(words)


def test_other_quantisations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="int8, int4"):
        run(["model", "-q", "fp8", "-o", str(tmp_path / "out")])


def test_the_model_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model"):
        run([str(tmp_path / "none"), "-q", "int8", "-o", str(tmp_path / "out")])
