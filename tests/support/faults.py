"""Faults planted into kvik's processes: KVIK_FAULT=POINT:NTH fails the NTH call of a point, once per process tree.

Calls count from the moment on when the file KVIK_FAULT_DONE.armed is there.

KVIK_FAULT=poison:NAME ends the engine whenever it computes a request whose id contains NAME. Installed by
`support.faulty_kvik` and `support.faulty_engine`, which tests start in place of kvik; kvik itself knows nothing of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENGINE_POINTS = ("schedule", "execute", "memory", "segfault", "sample", "grammar", "update", "truncated", "prepare")
API_POINTS = ("decode", "detokenise")


def armed(done: Path) -> Path:
    """The file that lets calls count."""
    return done.with_name(done.name + ".armed")


class PlantedError(Exception):
    """What a point raises."""


def install(points: tuple[str, ...]) -> None:
    """Plant what KVIK_FAULT asks for, if it is among `points`. KVIK_FAULT_DONE is a file that says it has happened."""
    point, _, detail = os.environ.get("KVIK_FAULT", "").partition(":")
    if point == "poison" and "execute" in points:
        _plant_poison(detail)
    elif point in points:
        _plant(point, _Once(int(detail), Path(os.environ["KVIK_FAULT_DONE"])))


class _Once:
    """True at the nth call, and never again in any process."""

    def __init__(self, nth: int, done: Path) -> None:
        self._num_left = nth
        self._done = done
        self._armed = armed(done)

    def __call__(self) -> bool:
        if not self._armed.exists():
            return False
        self._num_left -= 1
        if self._num_left or self._done.exists():
            return False
        self._done.touch()
        return True


def _plant(point: str, is_due: _Once) -> None:
    owner, name = _target(point)
    real = getattr(owner, name)

    def failing(*args: Any, **kwargs: Any) -> Any:
        if is_due():
            return _fail(point, real, args, kwargs)
        return real(*args, **kwargs)

    setattr(owner, name, failing)


def _fail(point: str, real: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if point == "memory":
        raise MemoryError("planted")
    if point == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if point == "truncated":
        frame = real(*args, **kwargs)
        return frame[: len(frame) // 2]
    raise PlantedError(f"planted in {point}")


def _target(point: str) -> tuple[Any, str]:
    """Whose attribute stands for the point."""
    if point in ("schedule", "update"):
        from kvik.scheduler import Scheduler

        return Scheduler, point
    if point in ("execute", "memory", "segfault"):
        from kvik.runner.model_runner import ModelRunner

        return ModelRunner, "submit"  # which each step comes through, ahead or not
    if point == "sample":
        from kvik.sampling.sampler import Sampler

        return Sampler, "sample"
    if point == "grammar":
        from kvik.grammar.constraint import Constraint

        return Constraint, "masks"
    if point == "prepare":
        from kvik.grammar.preparer import Preparer

        return Preparer, "_make"
    if point == "detokenise":
        from kvik.text.detokenizer import Detokenizer

        return Detokenizer, "push"
    if point == "decode":
        from kvik.wire import sockets

        return sockets, "decode_from_engine"
    from kvik.wire import engine_socket

    return engine_socket, "encode"


def _plant_poison(name: str) -> None:
    from kvik.runner.model_runner import ModelRunner

    real = ModelRunner.submit

    def failing(self: Any, plan: Any) -> Any:
        if any(name in share.request_id for share in plan.scheduled):
            os.kill(os.getpid(), signal.SIGSEGV)
        return real(self, plan)

    ModelRunner.submit = failing  # type: ignore[method-assign]
