"""The file changes under a clock that the test turns."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from kvik.errors import ConfigError
from kvik.server.access.key_file import MAX_FILE_BYTES, KeyFile, check_key_file
from kvik.server.access.keys import hash_key


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def write(path: Path, *names: str) -> None:
    entries = [{"name": n, "sha256": hash_key(n.encode()).hex(), "scopes": ["infer"]} for n in names]
    new = path.with_suffix(".new")
    new.write_text(json.dumps(entries))
    new.chmod(0o600)
    os.replace(new, path)


def names(file: KeyFile) -> list[str]:
    return [key.name for key in file.current()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "keys.json", "a")
    return tmp_path / "keys.json"


def test_a_change_is_seen_after_a_second(path: Path) -> None:
    clock = Clock()
    file = KeyFile(str(path), clock)
    write(path, "a", "b")
    clock.now_s += 0.9
    assert names(file) == ["a"]
    clock.now_s += 0.2
    assert names(file) == ["a", "b"]
    write(path, "b")
    assert names(file) == ["a", "b"]
    clock.now_s += 1
    assert names(file) == ["b"]
    path.write_text("[]")
    clock.now_s += 1
    assert names(file) == []


def test_it_is_read_once_per_change(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    file = KeyFile(str(path), clock)
    with caplog.at_level(logging.INFO, "kvik"):
        for _ in range(5):
            clock.now_s += 2
            file.current()
        assert not caplog.records
        write(path, "b")
        for _ in range(5):
            clock.now_s += 2
            file.current()
    assert [record.getMessage() for record in caplog.records] == [f"--api-key-file {path} was read again: 1 keys"]


@pytest.mark.parametrize("content", [b"", b"- {", b"\xff\xfe", b"x" * (MAX_FILE_BYTES + 1), b'[{"name": "b"}]', None])
def test_a_broken_file_changes_nothing_and_is_told_once(
    path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    file = KeyFile(str(path), clock)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    for _ in range(5):
        clock.now_s += 2
        assert names(file) == ["a"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the keys of before stay" in record.getMessage()
    write(path, "c")
    clock.now_s += 2
    assert names(file) == ["c"]


def test_the_start_fails_on_a_broken_file(path: Path) -> None:
    path.write_text("nonsense")
    for make in (KeyFile, check_key_file):
        with pytest.raises(ConfigError, match=r"--api-key-file .*must hold a list"):
            make(str(path))
        with pytest.raises(ConfigError, match="No such file"):
            make(str(path) + "x")


def test_a_file_that_others_may_read_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    KeyFile(str(path))
    assert not caplog.records
    path.chmod(0o644)
    KeyFile(str(path))
    assert "mode 644): chmod 600" in caplog.text


def test_a_file_without_keys_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(path)
    assert KeyFile(str(path)).current() == ()
    assert "holds no key" in caplog.text
