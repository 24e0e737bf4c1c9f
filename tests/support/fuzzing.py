"""Broken bytes and broken texts made from sound ones, and the loop that feeds them to a reader. Knows no format.

All is drawn from one seed, so a run is named by its number. A reader may refuse an input in the ways that it documents;
anything else that it raises, a run of more than a second, and memory far beyond the input's size are findings.
"""

from __future__ import annotations

import contextlib
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

SHORT_RUNS, LONG_RUNS = 2_000, 200_000
MAX_RUN_S = 1.0
MAX_EXTRA_BYTES = 512 * 2**20
"""Of address space: a length that is believed shows as a MemoryError."""
MAX_GROWTH_BYTES = 200 * 2**20
"""Of resident memory, over all runs of a test."""
_LENGTHS = (0, 1, 2, 7, 8, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
_CHARS = "\x00\t\n\"'\\{}[]()<>|,:=/-+.0123456789eEnulltrfaTFNxX u\u00e9\ud800\U0001f600\u2581\u200b"

Reader = Callable[[bytes], object]


class Bytes:
    """Flips, cuts, lengths of all sizes, pieces of other seeds."""

    def __init__(self, seeds: Sequence[bytes], rng: random.Random) -> None:
        self._seeds = seeds
        self._rng = rng
        self._changes = (self._flip, self._set, self._length, self._length, self._cut, self._drop, self._insert,
                         self._repeat, self._splice)  # fmt: skip

    def next(self) -> bytes:
        data = bytearray(self._rng.choice(self._seeds))
        for _ in range(self._rng.choice((1, 1, 1, 2, 3, 6))):
            self._rng.choice(self._changes)(data)
        return bytes(data)

    def _at(self, data: bytearray) -> int:
        return self._rng.randrange(len(data) + 1)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._at(data) - 1] ^= 1 << self._rng.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._at(data) - 1] = self._rng.choice((0, 1, 0x7F, 0x80, 0xC0, 0xD9, 0xDF, 0xFF, 0x22, 0x7B))

    def _length(self, data: bytearray) -> None:
        at, size = self._at(data), self._rng.choice((1, 2, 4, 8))
        value = self._rng.choice((*_LENGTHS, len(data), self._rng.randrange(64))) % 256**size
        data[at : at + size] = value.to_bytes(size, self._rng.choice(("little", "little", "big")))

    def _cut(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _drop(self, data: bytearray) -> None:
        at = self._at(data)
        del data[at : at + self._rng.randrange(1, 17)]

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self._rng.randbytes(self._rng.randrange(1, 9))

    def _repeat(self, data: bytearray) -> None:
        start, at = self._at(data), self._at(data)
        data[at:at] = data[start : start + self._rng.randrange(1, 65)] * self._rng.choice((1, 2, 20))

    def _splice(self, data: bytearray) -> None:
        other, at = self._rng.choice(self._seeds), self._at(data)
        start = self._rng.randrange(len(other) + 1)
        data[at : at + self._rng.randrange(32)] = other[start : start + self._rng.randrange(64)]


class Texts:
    """Characters that mean something set in, pieces dropped, repeated, and joined with other seeds."""

    def __init__(self, seeds: Sequence[str], rng: random.Random, pieces: Sequence[str] = ()) -> None:
        """`pieces`: texts of the format, such as its markers, to be set in as a whole."""
        self._seeds = seeds
        self._rng = rng
        self._pieces = (*pieces, *_CHARS)

    def next(self) -> str:
        text = self._rng.choice(self._seeds)
        for _ in range(self._rng.choice((1, 1, 2, 3, 6))):
            text = self._changed(text)
        return text

    def _changed(self, text: str) -> str:
        at = self._rng.randrange(len(text) + 1)
        end = min(len(text), at + self._rng.randrange(1, 17))
        match self._rng.randrange(6):
            case 0:
                return text[:at] + self._rng.choice(self._pieces) + text[at:]
            case 1:
                return text[:at] + self._rng.choice(self._pieces) + text[end:]
            case 2:
                return text[:at] + text[end:]
            case 3:
                return text[:at]
            case 4:
                return text[:at] + text[at:end] * self._rng.choice((2, 3, 50)) + text[end:]
        other = self._rng.choice(self._seeds)
        return text[:at] + other[self._rng.randrange(len(other) + 1) :]


def cut_in_pieces(text: str, rng: random.Random) -> list[str]:
    """`text` as a stream would bring it."""
    largest = rng.choice((1, 3, 20, 10_000))
    pieces, at = [], 0
    while at < len(text):
        size = rng.randint(1, largest)
        pieces.append(text[at : at + size])
        at += size
    return pieces


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Little more address space than there is in use, and none of it used at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    in_use = _statm(0)
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MAX_EXTRA_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - peak_before
    assert grown < MAX_GROWTH_BYTES, f"memory has grown by {grown} bytes"


def _statm(column: int) -> int:
    return int(Path("/proc/self/statm").read_text().split()[column]) * resource.getpagesize()


def fuzz(read: Callable[[], object], num_runs: int, refusals: tuple[type[Exception], ...]) -> str:
    """Call `read` so often; it draws its input itself. Returns what was seen, in a line.

    A failure is told with the number of its run.
    """
    num_refused, longest_s, num_done = 0, 0.0, 0
    started_s = time.monotonic()
    try:
        with limited_memory():
            while num_done < num_runs:
                began_s = time.process_time()
                try:
                    read()
                except refusals:
                    num_refused += 1
                longest_s = max(longest_s, time.process_time() - began_s)
                assert longest_s < MAX_RUN_S, f"took {longest_s:.1f} s"
                num_done += 1
    except BaseException as error:  # also what a test's time limit raises, and what Rust raises when it panics
        error.add_note(f"in run {num_done} of this fuzzer")
        raise
    return (
        f"{num_runs} runs in {time.monotonic() - started_s:.0f} s, {num_refused} refused, "
        f"the longest {1000 * longest_s:.0f} ms"
    )
