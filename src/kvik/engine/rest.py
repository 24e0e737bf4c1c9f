"""When the engine rests: paused, or asleep with its memory given back. Knows no request and no socket.

Asleep at level 0 it only computes nothing; at level 1 the memory of the KV cache is the system's, at level 2 that of
the weights too, which are read from the checkpoint again.
Requests keep their tokens and places: what ran is preempted and computed again after the rest, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from kvik.errors import EngineError, InsufficientMemoryError, ModelFileError
from kvik.executor.base import Executor
from kvik.scheduler import Scheduler
from kvik.step import MemoryPart
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

PARTS_BY_LEVEL: tuple[tuple[MemoryPart, ...], ...] = ((), ("kv_cache",), ("kv_cache", "weights"))
"""What each level of sleep gives back, in this order; it comes back in the opposite one."""
TAGS = ("weights", "kv_cache")


class Rest:
    """The engine computes while it is neither paused nor asleep; the two are independent of each other."""

    def __init__(self, executor: Executor, scheduler: Callable[[], Scheduler]) -> None:
        self._executor = executor
        self._scheduler = scheduler
        self._level: int | None = None
        self._absent: list[MemoryPart] = []
        """Parts that were given back and are not restored yet."""
        self.is_paused = False

    @property
    def is_sleeping(self) -> bool:
        return self._level is not None

    @property
    def may_compute(self) -> bool:
        return not self.is_paused and self._level is None

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def sleep(self, level: int) -> bool:
        """Fall asleep, or deeper asleep. Returns True. Raises `EngineError` for a level other than 0 to 2."""
        if level not in range(len(PARTS_BY_LEVEL)):
            raise EngineError(f"the level of sleep must be 0, 1 or 2, got {level}")
        self._level = max(level, self._level or 0)
        for part in PARTS_BY_LEVEL[level]:
            if part not in self._absent:
                self._absent.append(part)
                num_bytes = self.release_kv_cache() if part == "kv_cache" else self._executor.release(part)
                logger.info("sleep: the memory of the %s is given back, %.3f GiB", part, num_bytes / 2**30)
        return True

    def wake_up(self, tags: Sequence[str] | None = None) -> bool:
        """Restore the parts that `tags` name, all for None; whether the engine still sleeps.

        It is awake when nothing is absent. Raises `EngineError` for an unknown tag, and where a part cannot be
        restored: the engine sleeps on then.
        """
        unknown = sorted(set(tags or ()) - set(TAGS))
        if unknown:
            raise EngineError(f"tags must be {' or '.join(TAGS)}, got {unknown[0]!r}")
        for part in reversed(self._absent.copy()):
            if tags is None or part in tags:
                started_s = time.perf_counter()
                self._restore(part)
                self._absent.remove(part)
                logger.info("wake up: the %s took %.2f seconds", part, time.perf_counter() - started_s)
        if not self._absent:
            self._level = None
        return self.is_sleeping

    def _restore(self, part: MemoryPart) -> None:
        try:
            self._executor.restore(part)
        except (ModelFileError, InsufficientMemoryError) as error:
            raise EngineError(f"the engine sleeps on and may be woken again: {error}") from error

    def release_kv_cache(self) -> int:
        """Give back the memory of keys and values, bytes. What ran is computed again; all prefixes are forgotten."""
        self.reset_prefix_cache()
        return self._executor.release("kv_cache")

    def reset_prefix_cache(self) -> None:
        """Forget all prefixes, whoever uses them."""
        scheduler = self._scheduler()
        scheduler.preempt_all()
        if not scheduler.reset_prefix_cache():
            raise EngineError("blocks are held by nobody who runs; the engine's log has the details")
