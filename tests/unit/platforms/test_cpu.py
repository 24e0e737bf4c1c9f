from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvik.platforms import cpu


def test_memory_of_the_machine_and_of_this_process() -> None:
    resident = cpu.resident_memory_bytes()
    assert 1e6 < resident < cpu.total_memory_bytes()
    assert 0 < cpu.available_memory_bytes() <= cpu.total_memory_bytes()


def test_cores_are_those_that_this_process_may_use() -> None:
    assert 1 <= cpu.num_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("text", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", None)])
def test_a_cpu_quota_is_rounded_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cores: int | None
) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert cpu.num_cores() == (cores or 8)


def test_a_control_group_limits_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(f"{3 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 20}\n")
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    assert cpu.total_memory_bytes() == 3 << 20
    assert cpu.available_memory_bytes() == 2 << 20


def test_a_control_group_without_limit_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cpu.total_memory_bytes()
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    assert cpu.total_memory_bytes() >= before
