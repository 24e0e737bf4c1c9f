"""A page of memory that both processes map: what the engine is doing, readable when it hangs and when it is gone.

The engine alone writes, before it does what it says; nothing is ever waited for. Knows no socket and no request but
by its id. Layout, in the byte order of the machine:

    0   u64   progress: counted up by the engine's loop
    8   u64   progress: counted up by native code, within steps
    16  u64   steps begun
    24  u32   stage
    28  u32   bytes of the ids
    32  ...   ids of the step's requests, one per line
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

STACKS_SIGNAL = signal.SIGUSR1
"""Has the engine write the stacks of all its threads to its log, whatever it is doing."""

_NUM_BYTES = 1 << 18
_COUNTS = struct.Struct("=QQQII")
_U64 = struct.Struct("=Q")
_NATIVE_OFFSET, _STAGE_OFFSET = 8, 16
_STAGE = struct.Struct("=QII")
_MOST_ID_BYTES = _NUM_BYTES - _COUNTS.size


def pulse_path(address: str) -> Path:
    """Where the page of the engine is that speaks at `address`: beside its socket, for nobody else to read."""
    return Path(address.removeprefix("ipc://")).with_name("pulse")


class Stage(IntEnum):
    """Where the engine's loop is."""

    BETWEEN_STEPS = 0
    PLANNING = 1
    COMPUTING = 2


@dataclass(frozen=True, slots=True)
class PulseReading:
    num_progress: int
    """Grows as long as the engine gets anywhere: loop turns, and native work inside of a step."""
    num_steps: int
    """Steps begun."""
    stage: Stage
    request_ids: tuple[str, ...] | None
    """Who is in the step that is being computed. None where they are not known: nothing is computed, or they are too
    many for the page."""


class PulseReader:
    """The API process' end; makes the page. Raises `OSError` when there is no room for it."""

    def __init__(self, path: Path) -> None:
        with open(path, "w+b") as file:
            file.truncate(_NUM_BYTES)
            if hasattr(os, "posix_fallocate"):  # a page that the disk has no room for would end the engine at a write
                os.posix_fallocate(file.fileno(), 0, _NUM_BYTES)
            self._page = mmap.mmap(file.fileno(), _NUM_BYTES)

    def read(self) -> PulseReading:
        """While the engine writes, ids may be those of the step before or after; of a dead one they are exact."""
        num_loop, num_native, num_steps, stage, num_id_bytes = _COUNTS.unpack_from(self._page)
        ids = None
        if stage == Stage.COMPUTING and 0 < num_id_bytes <= _MOST_ID_BYTES:
            raw = self._page[_COUNTS.size : _COUNTS.size + num_id_bytes]
            ids = tuple(raw.decode("utf-8", "replace").split("\n"))
        return PulseReading(num_loop + num_native, num_steps, Stage(stage), ids)

    def close(self) -> None:
        self._page.close()


class PulseWriter:
    """The engine's end."""

    def __init__(self, path: Path) -> None:
        with open(path, "r+b") as file:
            self._page = mmap.mmap(file.fileno(), _NUM_BYTES)
        self._num_turns = 0
        self._num_steps = 0
        self._ids: list[str] = []
        self._num_id_bytes = 0

    @property
    def native_progress_address(self) -> int:
        """Of the u64 that native code counts up; valid as long as this object."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._page, _NATIVE_OFFSET))

    def turn(self) -> None:
        """The loop goes round."""
        self._num_turns += 1
        _U64.pack_into(self._page, 0, self._num_turns)

    def planning(self) -> None:
        self._write_stage(Stage.PLANNING)

    def computing(self, request_ids: Sequence[str]) -> None:
        """A step of these requests begins."""
        if request_ids != self._ids:
            self._write_ids(list(request_ids))
        self._num_steps += 1
        self._write_stage(Stage.COMPUTING)

    def between_steps(self) -> None:
        self._write_stage(Stage.BETWEEN_STEPS)

    def _write_stage(self, stage: Stage) -> None:
        _STAGE.pack_into(self._page, _STAGE_OFFSET, self._num_steps, stage, self._num_id_bytes)

    def _write_ids(self, request_ids: list[str]) -> None:
        raw = "\n".join(request_ids).encode()
        self._ids, self._num_id_bytes = request_ids, len(raw) if len(raw) <= _MOST_ID_BYTES else 0
        self._page[_COUNTS.size : _COUNTS.size + self._num_id_bytes] = raw[: self._num_id_bytes]
