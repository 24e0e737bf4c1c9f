"""Answers gathered in a directory: stopped at any moment, the output file has each once, or is as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvik.cli.batch.output import OutputFiles
from kvik.errors import ConfigError


def write(path: Path, *custom_ids: str) -> None:
    path.write_text("".join(json.dumps({"custom_id": one}) + "\n" for one in custom_ids))


def ids(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]


def test_without_a_directory_the_output_grows_itself(tmp_path: Path) -> None:
    files = OutputFiles.of(tmp_path / "out", None)
    write(files.growing, "a")
    assert files.done() == {"a"}
    files.deliver()
    assert ids(tmp_path / "out") == ["a"]


def test_what_has_grown_is_put_behind_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    files = OutputFiles.of(tmp_path / "out", tmp_path / "parts")
    write(files.target, "a", "b")
    write(files.growing, "b", "c")  # as a run leaves them that was stopped after it had delivered "b"
    assert files.done() == {"a", "b", "c"}
    files.deliver()
    assert ids(files.target) == ["a", "b", "c"]
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["out"]
    assert list((tmp_path / "parts").iterdir()) == []
    files.deliver()
    assert ids(files.target) == ["a", "b", "c"]


def test_batches_of_one_name_do_not_meet(tmp_path: Path) -> None:
    growing = {OutputFiles.of(tmp_path / folder / "out", tmp_path).growing for folder in ("x", "y")}
    assert len(growing) == 2
    assert OutputFiles.of(tmp_path / "x" / ".." / "x" / "out", tmp_path).growing in growing


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no directory; make it"):
        OutputFiles.of(tmp_path / "out", tmp_path / "nowhere")
