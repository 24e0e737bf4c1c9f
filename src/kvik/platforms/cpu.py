"""The CPU as a device: usable cores and memory, also inside a container. Knows no torch."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
"""Control groups write "no limit" as a number near 2^63."""


def num_cores() -> int:
    """Cores that this process may run on, within the CPU quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota_cores(_CGROUP / "cpu.max")
    return max(1, min(cores, quota)) if quota else cores


def total_memory_bytes() -> int:
    """Memory of the machine, or of the control group if that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(physical, _cgroup_bytes("memory.max", "memory/memory.limit_in_bytes"))


def available_memory_bytes() -> int:
    """Memory that could be taken now without swapping: the kernel's estimate, within the control group."""
    limit = _cgroup_bytes("memory.max", "memory/memory.limit_in_bytes")
    if limit < _UNLIMITED:
        used = _cgroup_bytes("memory.current", "memory/memory.usage_in_bytes", default=0)
        return min(_meminfo_available_bytes(), max(0, limit - used))
    return _meminfo_available_bytes()


def resident_memory_bytes() -> int:
    """Physical memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu_quota_cores(file: Path) -> int | None:
    try:
        quota, period = file.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else -(-int(quota) // int(period))


def _cgroup_bytes(v2: str, v1: str, default: int = _UNLIMITED) -> int:
    for name in (v2, v1):
        try:
            text = (_CGROUP / name).read_text().strip()
        except OSError:
            continue
        return default if text == "max" else min(int(text), _UNLIMITED)
    return default


def _meminfo_available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return total_memory_bytes()
