"""What is put arrives, whatever its place in the file and however late the device copies."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.slow_lane import SlowLane
from kvik.errors import ModelFileError
from kvik.weights.file_source import PAGE_BYTES, FileSource, MemorySource
from kvik.weights.stream import WeightStream

DATA = torch.randint(0, 256, (400_000,), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


@st.composite
def ranges(draw: st.DrawFn, most: int) -> list[tuple[int, int]]:
    """(first, bytes) in the order of the file, some side by side, some far apart."""
    found, at = [], 0
    for gap, count in draw(
        st.lists(st.tuples(st.sampled_from([0, 1, 7, 5000, 70_000]), st.integers(0, most)), max_size=30)
    ):
        if at + gap + count > DATA.numel():
            break
        found.append((at + gap, count))
        at += gap + count
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data(), pages=st.integers(3, 6), num_readers=st.integers(1, 4), num_buffers=st.integers(1, 6))
def test_all_bytes_arrive(data: st.DataObject, pages: int, num_readers: int, num_buffers: int) -> None:
    lane, source = SlowLane(), MemorySource(DATA)
    buffer_bytes = pages * PAGE_BYTES
    wanted = data.draw(ranges(buffer_bytes - 2 * PAGE_BYTES))
    arrived: list[torch.Tensor] = []
    stream = WeightStream(lane, num_readers=num_readers, num_buffers=num_buffers, buffer_bytes=buffer_bytes)
    with stream:
        for first, count in wanted:
            stream.put(source, first, count, lambda part: arrived.append(part.clone()))
        stream.finish()
    assert len(arrived) == len(wanted)
    for part, (first, count) in zip(arrived, wanted, strict=True):
        assert torch.equal(part, DATA[first : first + count])
    assert len(lane.pinned) <= num_buffers
    assert lane.is_closed


def test_a_tensor_of_nothing_arrives_too() -> None:
    arrived: list[torch.Tensor] = []
    with WeightStream(SlowLane(), num_readers=1) as stream:
        stream.put(MemorySource(DATA), 0, 0, arrived.append)
        stream.finish()
    assert [part.numel() for part in arrived] == [0]


def test_neighbours_travel_together() -> None:
    lane, source = SlowLane(), MemorySource(DATA)
    with WeightStream(lane, num_readers=2, buffer_bytes=16 * PAGE_BYTES) as stream:
        for first in range(0, 40_000, 100):
            stream.put(source, first, 90, lambda part: None)
        stream.finish()
    assert lane.num_copies == 1


def test_reads_go_on_side_by_side() -> None:
    """Both readers are in a read at a time, or the barrier breaks."""

    class Meeting:
        def __init__(self) -> None:
            self.barrier = threading.Barrier(2, timeout=10)

        def read_into(self, view: memoryview, first: int, end: int) -> None:
            self.barrier.wait()

        def close(self) -> None:
            pass

    lane, source = SlowLane(), Meeting()
    with WeightStream(lane, num_readers=2, buffer_bytes=3 * PAGE_BYTES) as stream:
        for index in range(6):
            stream.put(source, index * 200_000, 10, lambda part: None)
        stream.finish()
    assert lane.num_copies == 6


def test_a_short_file_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(DATA[:30_000]))
    lane, source = SlowLane(), FileSource(path)

    def read_all() -> None:
        with WeightStream(lane, num_readers=2, buffer_bytes=4 * PAGE_BYTES) as stream:
            for first in range(0, 60_000, 6000):
                stream.put(source, first, 6000, lambda part: None)
            stream.finish()

    with pytest.raises(ModelFileError, match=r"model.safetensors ends at byte 30000"):
        read_all()
    source.close()
    assert lane.is_closed


@pytest.mark.parametrize("num_bytes", [4096, 3 * 4096 + 1])
def test_sizes_of_buffers(num_bytes: int) -> None:
    with pytest.raises(ValueError, match="3 pages of 4096 or more"):
        WeightStream(SlowLane(), buffer_bytes=num_bytes)
