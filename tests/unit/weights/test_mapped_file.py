from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from kvik.errors import ModelFileError
from kvik.weights.mapped_file import MappedFile


def test_views_are_the_file_and_outlive_dropped_pages(tmp_path: Path) -> None:
    content = bytes(range(256)) * 64
    (tmp_path / "f").write_bytes(content)
    file = MappedFile(tmp_path / "f")
    view = file.view(5, 9000)
    assert view.dtype == torch.uint8
    assert bytes(view.tolist()) == content[5:9005]
    file.drop(5, 9000)
    file.drop_all()
    assert bytes(view.tolist()) == content[5:9005]
    assert file.read(len(content) - 3, 10) == content[-3:]
    assert file.size == len(content)


def test_less_than_a_page_is_not_dropped_at_all(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 3 * mmap.PAGESIZE)
    file = MappedFile(tmp_path / "f")
    view = file.view(0, file.size)
    view[0] = 1  # a private copy of this page; dropping it would bring the file's byte back
    file.drop(0, mmap.PAGESIZE - 1)
    assert view[0] == 1
    file.drop(0, mmap.PAGESIZE)
    assert view[0] == ord("x")


def test_reading_ahead_asks_for_each_byte_once_and_ends_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvik.weights.mapped_file._AHEAD_BYTES", 2 * mmap.PAGESIZE)
    monkeypatch.setattr("kvik.weights.mapped_file._ASKED_AT_ONCE", mmap.PAGESIZE)
    (tmp_path / "f").write_bytes(b"x" * (5 * mmap.PAGESIZE + 7))
    file = MappedFile(tmp_path / "f")
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(file, "_map", FakeMap(asked))
    for end, pages in [(10, 3), (mmap.PAGESIZE, 3), (mmap.PAGESIZE + 1, 4), (file.size, 6), (file.size, 6)]:
        file.read_ahead(end)
        assert [start for _, start, _ in asked] == [page * mmap.PAGESIZE for page in range(pages)]
    assert {advice for advice, _, _ in asked} == {mmap.MADV_WILLNEED}
    assert sum(num_bytes for _, _, num_bytes in asked) == file.size


class FakeMap:
    def __init__(self, asked: list[tuple[int, int, int]]) -> None:
        self.asked = asked

    def madvise(self, *call: int) -> None:
        self.asked.append(call)  # type: ignore[arg-type]


def test_what_cannot_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ModelFileError, match="empty is empty"):
        MappedFile(tmp_path / "empty")
    with pytest.raises(ModelFileError, match=r"cannot map .*gone"):
        MappedFile(tmp_path / "gone")
