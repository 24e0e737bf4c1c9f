"""Bytes of a file, by way of the cache or past it, and what is said of a file that ends too early."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.errors import ModelFileError
from kvik.weights.file_source import PAGE_BYTES, FileSource, MemorySource
from kvik.weights.lane import StagingBuffer

NUM_BYTES = 5 * PAGE_BYTES + 123
DATA = bytes(torch.randint(0, 256, (NUM_BYTES,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)))


def forget(path: Path) -> None:
    """Have the system drop the file from its cache."""
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "weights.bin"
    path.write_bytes(DATA)
    return path


@settings(max_examples=40, deadline=None)
@given(page=st.integers(0, 5), length=st.integers(0, NUM_BYTES), is_cold=st.booleans())
def test_any_range_cold_or_warm(path: Path, page: int, length: int, is_cold: bool) -> None:
    first = page * PAGE_BYTES
    end = min(first + length, NUM_BYTES)
    if is_cold:
        forget(path)
    source, buffer = FileSource(path), StagingBuffer.of(6 * PAGE_BYTES)
    source.read_into(buffer.view, first, end)
    source.close()
    assert bytes(buffer.view[: end - first]) == DATA[first:end]


def test_a_file_in_the_cache_is_read_from_there(path: Path) -> None:
    assert path.read_bytes() == DATA
    source, buffer = FileSource(path), StagingBuffer.of(6 * PAGE_BYTES)
    source.read_into(buffer.view, 0, NUM_BYTES)
    source.close()
    assert source.num_direct_bytes == 0


@pytest.mark.parametrize("refused_at", ["open", "read"])
def test_file_systems_that_cannot_be_read_past_their_cache(
    path: Path, refused_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open, real_preadv = os.open, os.preadv
    direct: list[int] = []

    def open_(name: Path, flags: int) -> int:
        if flags & os.O_DIRECT and refused_at == "open":
            raise OSError(22, "Invalid argument")
        file = real_open(name, flags & ~os.O_DIRECT)
        if flags & os.O_DIRECT:
            direct.append(file)
        return file

    def preadv(file: int, views: list[memoryview], offset: int, flags: int = 0) -> int:
        if file in direct or flags:
            raise OSError(22, "Invalid argument")
        return real_preadv(file, views, offset, flags)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "preadv", preadv)
    source, buffer = FileSource(path), StagingBuffer.of(6 * PAGE_BYTES)
    source.read_into(buffer.view, 0, NUM_BYTES)
    source.close()
    assert bytes(buffer.view[:NUM_BYTES]) == DATA
    assert len(direct) == (refused_at == "read")


@pytest.mark.parametrize("is_cold", [False, True])
def test_a_file_that_ends_too_early(tmp_path: Path, is_cold: bool) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(DATA[: PAGE_BYTES + 10])
    if is_cold:
        forget(path)
    source = FileSource(path)
    with pytest.raises(ModelFileError, match=r"short.safetensors ends at byte 4106, .* up to byte 9000"):
        source.read_into(StagingBuffer.of(3 * PAGE_BYTES).view, 0, 9000)
    source.close()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nowhere: No such file"):
        FileSource(tmp_path / "nowhere")
    source = FileSource(tmp_path)
    with pytest.raises(ModelFileError, match=r"cannot read .*: Is a directory"):
        source.read_into(StagingBuffer.of(PAGE_BYTES).view, 0, 10)
    source.close()


def test_memory() -> None:
    data, buffer = torch.arange(100, dtype=torch.uint8), StagingBuffer.of(PAGE_BYTES)
    MemorySource(data).read_into(buffer.view, 7, 30)
    assert bytes(buffer.view[:23]) == bytes(data[7:30])
    MemorySource(data).read_into(buffer.view, 0, 0)
