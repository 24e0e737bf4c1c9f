from __future__ import annotations

from pathlib import Path

import pytest

from kvik.plan.speed import MachineSpeed
from kvik.plan.speed_file import FILE_NAME, remember_speed, remembered_speed

SPEED = MachineSpeed({"bf16": 2e10}, {"bf16": 5e11}, "a test")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KVIK_CACHE_ROOT", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_measurement_is_remembered(folder: Path) -> None:
    assert remembered_speed() is None
    remember_speed(SPEED)
    assert remembered_speed() == SPEED
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"read_bytes_per_s": {"": -1}}', b"\xff"])
def test_a_broken_file_is_no_measurement(content: bytes, folder: Path) -> None:
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(content)
    assert remembered_speed() is None


def test_a_folder_that_cannot_be_written_is_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_text("a file stands here")
    remember_speed(SPEED)
    assert "KVIK_CACHE_ROOT" in caplog.text
