from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from fakes.tiny_config import tiny_config
from kvik.telemetry.start_memory import FILE_NAME, MAX_STARTS, StartMemory, checkpoint_bytes, key_of


def test_what_was_remembered_is_recalled(tmp_path: Path) -> None:
    memory = StartMemory(tmp_path / "deep" / "folder")
    assert memory.recall("a") is None
    memory.remember("a", {"imports": 1.23456, "warm up": 0.0})
    assert StartMemory(tmp_path / "deep" / "folder").recall("a") == {"imports": 1.2346, "warm up": 0.0}
    assert os.listdir(tmp_path / "deep" / "folder") == [FILE_NAME], "no temporary file is left"


def test_the_latest_are_kept(tmp_path: Path) -> None:
    memory = StartMemory(tmp_path)
    memory.remember("first", {"imports": 1.0})
    for i in range(MAX_STARTS - 1):
        memory.remember(str(i), {"imports": 2.0})
    memory.remember("first", {"imports": 3.0})
    memory.remember("one more", {"imports": 4.0})
    assert memory.recall("0") is None
    assert memory.recall("first") == {"imports": 3.0}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'{"starts": 1}', b'{"starts": {"a": 1}}',
        b'{"starts": {"a": {"imports": "x"}}}',
        b'{"starts": {"a": {"imports": -1}}}', b'{"starts": {"a": {"imports": 1e300}}}',
        b'{"starts": {"a": {"dance": 1}}}', b'{"starts": {"a": {"imports": NaN}}}', b"9" * 400_000,
    ],
)  # fmt: skip
def test_a_file_that_is_no_memory_is_forgotten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    memory = StartMemory(tmp_path)
    assert memory.recall("a") is None
    memory.remember("a", {"imports": 1.0})
    assert memory.recall("a") == {"imports": 1.0}


def test_a_folder_that_cannot_be_written_to_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    memory = StartMemory(tmp_path / "file" / "below")
    with caplog.at_level(logging.WARNING):
        memory.remember("a", {"imports": 1.0})
    assert "KVIK_CACHE_ROOT" in caplog.text
    assert len(caplog.records) == 1
    assert memory.recall("a") is None


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVIK_CACHE_ROOT", str(tmp_path / "ours"))
    StartMemory().remember("a", {"imports": 1.0})
    assert (tmp_path / "ours" / FILE_NAME).is_file()
    monkeypatch.delenv("KVIK_CACHE_ROOT")
    monkeypatch.delenv("VLLM_CACHE_ROOT", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    StartMemory().remember("a", {"imports": 1.0})
    assert (tmp_path / "xdg" / "kvik" / FILE_NAME).is_file()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative: to be ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    StartMemory().remember("a", {"imports": 1.0})
    assert (tmp_path / "home" / ".cache" / "kvik" / FILE_NAME).is_file()


def test_bytes_of_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "model-1.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "model-2.safetensors").write_bytes(b"x" * 20)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * 7)
    assert checkpoint_bytes(str(tmp_path)) == 120
    assert checkpoint_bytes(str(tmp_path / "tokenizer.json")) == 7
    assert checkpoint_bytes(str(tmp_path / "missing")) == 0


def test_a_key_tells_nothing_and_differs_where_loading_does() -> None:
    config = tiny_config()
    key = key_of(config, 5)
    assert key == key_of(config, 5) != key_of(config, 6)
    assert config.model.model not in key
    assert len(key) == 16
