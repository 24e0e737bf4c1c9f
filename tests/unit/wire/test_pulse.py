from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from kvik.wire.pulse import PulseReader, PulseWriter, Stage, pulse_path


@pytest.fixture
def page(tmp_path: Path) -> tuple[PulseReader, PulseWriter]:
    path = tmp_path / "pulse"
    return PulseReader(path), PulseWriter(path)


def test_a_page_nobody_has_written_to(tmp_path: Path) -> None:
    reading = PulseReader(tmp_path / "pulse").read()
    assert (reading.num_progress, reading.num_steps, reading.stage) == (0, 0, Stage.BETWEEN_STEPS)
    assert reading.request_ids is None


def test_stages(page: tuple[PulseReader, PulseWriter]) -> None:
    reader, writer = page
    writer.planning()
    assert reader.read().stage == Stage.PLANNING
    assert reader.read().request_ids is None
    writer.computing(["a", "bé"])
    assert reader.read().request_ids == ("a", "bé")
    assert reader.read().num_steps == 1
    writer.between_steps()
    assert reader.read().request_ids is None
    writer.computing(["a", "bé"])
    assert reader.read().request_ids == ("a", "bé")
    writer.computing(["b"])
    assert reader.read().request_ids == ("b",)
    assert reader.read().num_steps == 3


def test_progress_is_turns_and_native_work(page: tuple[PulseReader, PulseWriter]) -> None:
    reader, writer = page
    writer.turn()
    ctypes.c_uint64.from_address(writer.native_progress_address).value += 5
    writer.turn()
    assert reader.read().num_progress == 7


def test_more_ids_than_the_page_holds(page: tuple[PulseReader, PulseWriter]) -> None:
    reader, writer = page
    writer.computing(["x" * 100] * 5000)
    assert reader.read().stage == Stage.COMPUTING
    assert reader.read().request_ids is None
    writer.computing(["y"])
    assert reader.read().request_ids == ("y",)


def test_it_lies_beside_the_socket() -> None:
    assert pulse_path("ipc:///tmp/kvik-1/engine") == Path("/tmp/kvik-1/pulse")
