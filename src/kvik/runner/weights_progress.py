"""How far the loading of the weights is: the phase that goes on, and a part of it for each file. Knows no model."""

from __future__ import annotations

import time
from collections.abc import Callable

from kvik.messages import Phase
from kvik.telemetry.phases import PhaseTimer

TELL_INTERVAL_S = 0.1


class WeightsProgress:
    """Told of tensors and files as they are done; tells the timer, ten times a second at most."""

    def __init__(self, timer: PhaseTimer, whole: Phase, clock: Callable[[], float] = time.monotonic) -> None:
        """`whole` is the phase in progress; its bytes are set here."""
        self._timer = timer
        self._whole = whole
        self._clock = clock
        self._on_shard: Callable[[str, int, int], None] = lambda name, num_done, num_shards: None
        self._shard_start_s = self._last_told_s = clock()
        self._num_shard_bytes = 0

    def begin(self, num_bytes: int, on_shard: Callable[[str, int, int], None]) -> None:
        """`num_bytes` will be read; `on_shard` hears of files as well."""
        self._whole.num_bytes = num_bytes
        self._on_shard = on_shard
        self._shard_start_s = self._clock()

    def bytes_done(self, num_bytes: int) -> None:
        self._num_shard_bytes += num_bytes
        self._whole.num_bytes_done += num_bytes
        now_s = self._clock()
        if now_s - self._last_told_s >= TELL_INTERVAL_S:
            self._last_told_s = now_s
            self._timer.tell(self._whole)

    def shard_done(self, name: str, num_done: int, num_shards: int) -> None:
        end_s = self._clock()
        span = Phase(f"{self._whole.name}: {name}", self._timer.process, self._shard_start_s, end_s)
        span.num_bytes = self._num_shard_bytes
        self._timer.add(span)
        self._shard_start_s, self._num_shard_bytes = end_s, 0
        self._on_shard(name, num_done, num_shards)
