"""A tape: the kernel calls of a computation, recorded once and replayed in one native call (csrc/tape.h).

While recording, a kernel's wrapper checks and allocates as always, but the kernel does not run. What would make a
replay compute something else than the wrappers do is found before the first replay and raises `RecordingError`:

- an op of torch that could change a tensor: it would run once, at recording, and never again;
- a pointer to memory that is neither the arena's nor one of the tensors that the caller vouches for;
- a number that comes from the step's counts without being of a count's type (csrc/table.h), or a call that depends on
  them: the computation is recorded for the largest counts and for ones, and the two must agree.

Knows no model, no batch and no op.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from kvik.kernels.arena import Arena, ArenaFullError
from kvik.kernels.runtime import native


class RecordingError(RuntimeError):
    """The computation cannot be replayed; it has to be called anew each time."""


class Counts(NamedTuple):
    """What differs between two replays."""

    num_rows: int
    num_requests: int = 1
    block_table_width: int = 1


Compute = Callable[[Counts], torch.Tensor]
"""Makes kernel calls for the counts it is given, on memory that stays where it is, and returns its result."""


class Tape:
    """The calls of one computation for counts up to those it was recorded with."""

    def __init__(self, compute: Compute, most: Counts, arena: Arena, known: Iterable[torch.Tensor]) -> None:
        """Record. Activations lie in `arena`; every other tensor that `compute` reads or writes is in `known`.

        The caller keeps all of them alive as long as the tape. Raises `RecordingError`.
        """
        memory = _KnownMemory(arena, known)
        smallest = _record(compute, Counts(1, 1, 1), arena)[0]
        self._tape, self.result = _record(compute, most, arena)
        """`result`: what `compute` returned, as large as can be. Rows beyond a replay's count keep what they held."""
        self._most = most
        _compare(_readable(self._tape, most, memory), _readable(smallest, Counts(1, 1, 1), memory))

    def fits(self, counts: Counts) -> bool:
        """Whether `replay` may be called with these."""
        most = self._most
        return counts[0] <= most[0] and counts[1] <= most[1] and counts[2] <= most[2]

    def replay(self, counts: Counts) -> None:
        """Make the calls, without the interpreter's lock. Raises IndexError for a row with an id outside its table."""
        if not self.fits(counts):
            raise ValueError(f"a tape for at most {self._most} cannot be replayed for {counts}")
        self._tape.replay(*counts)


class _OnlyQuestions(TorchFunctionMode):
    """Lets through what asks a tensor something or makes a view of it; a copy is found by its foreign address."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in _QUESTIONS:
            return func(*args, **(kwargs or {}))
        raise RecordingError(f"torch's {func.__name__} was called; only kernels of this package can be replayed")


_QUESTIONS = frozenset(
    (
        "__get__", "__getitem__", "__len__", "contiguous", "data_ptr", "dim", "element_size", "is_contiguous",
        "is_floating_point", "narrow", "numel", "size", "storage_offset", "stride", "view",
    )
)  # fmt: skip


def _record(compute: Compute, counts: Counts, arena: Arena) -> tuple[Any, torch.Tensor]:
    tape = native.Tape()
    tape.start()
    try:
        with arena.serving(), _OnlyQuestions():
            return tape, compute(counts)
    except ArenaFullError as error:
        raise RecordingError(str(error)) from error
    finally:
        tape.stop()


class _KnownMemory:
    """Names for the addresses that a tape may hold."""

    def __init__(self, arena: Arena, known: Iterable[torch.Tensor]) -> None:
        self._arena = _span(arena.memory)
        spans = sorted(_span(tensor) for tensor in known if tensor.is_cpu)
        self._begins = [begin for begin, _ in spans]
        self._spans = spans

    def name(self, address: int) -> str | None:
        """The same for the same place in two recordings; None for memory that nobody vouches for."""
        if address == 0:
            return "null"
        if self._arena[0] <= address < self._arena[1]:
            return "arena"
        at = bisect.bisect(self._begins, address) - 1
        return f"address {address}" if at >= 0 and address < self._spans[at][1] else None


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()


def _readable(tape: Any, counts: Counts, memory: _KnownMemory) -> list[tuple[str, list[str]]]:
    """Per call its op and its arguments in words. Raises `RecordingError` for one that cannot be replayed."""
    return [
        (op, [_word(op, i, kind, value, counts, memory) for i, (kind, value) in enumerate(arguments)])
        for op, arguments in tape.calls()
    ]


def _word(op: str, index: int, kind: str, value: float, counts: Counts, memory: _KnownMemory) -> str:
    if kind == "number":
        return str(value)
    if kind == "address":
        name = memory.name(int(value))
        if name is None:
            raise RecordingError(f"argument {index} of {op} points to memory that may be gone at the next step")
        return name
    expected = getattr(counts, kind)
    if value != expected:
        raise RecordingError(f"argument {index} of {op} is {value:.0f}, but the step's {kind} is {expected}")
    return kind


def _compare(calls: list[tuple[str, list[str]]], others: list[tuple[str, list[str]]]) -> None:
    """The recordings of one computation for different counts must be the same, call by call."""
    if [op for op, _ in calls] != [op for op, _ in others]:
        raise RecordingError("which kernels are called depends on the number of tokens or requests")
    for (op, arguments), (_, other) in zip(calls, others, strict=True):
        for i, (word, other_word) in enumerate(zip(arguments, other, strict=True)):
            if word != other_word:
                raise RecordingError(
                    f"argument {i} of {op} depends on the number of tokens or requests ({word} and {other_word}), "
                    "but csrc/table.h does not say so"
                )
