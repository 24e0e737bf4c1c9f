"""Batch files: what is asked, what is kept apart, what was answered before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvik.cli.batch.files import ResultWriter, read_done, read_input
from kvik.errors import ConfigError


def line(**changes: Any) -> str:
    return json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}} | changes)


def test_bad_lines_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    texts = [
        line(),
        "{",
        "[]",
        line(custom_id=""),
        line(custom_id="b", url="/x"),
        line(custom_id="c", body={"stream": True}),
    ]
    path.write_text("\n\n".join([*texts, line(custom_id="d", method="GET")]))
    good, bad = read_input(path)
    assert [one.custom_id for one in good] == ["a"]
    assert [(one.line, one.custom_id) for one in bad] == [
        (3, None),
        (5, None),
        (7, None),
        (9, "b"),
        (11, "c"),
        (13, "d"),
    ]


def test_a_custom_id_comes_once(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(f"{line()}\n{line()}\n")
    with pytest.raises(ConfigError, match="lines 1 and 2"):
        read_input(path)


def test_what_was_written_is_done_and_a_cut_line_is_not(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert read_done(path) == set()
    with path.open("w") as file:
        ResultWriter(file).write("a", {"status_code": 200}, None)
        file.write('{"custom_id": "b", "resp')
    assert read_done(path) == {"a"}
    assert path.read_text().endswith("}\n")


def test_a_file_of_something_else_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("my notes\n")
    with pytest.raises(ConfigError, match="line 1"):
        read_done(path)
