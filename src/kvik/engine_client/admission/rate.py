"""How fast the engine works while requests wait, how long its answers take, whether a flood comes. Knows no clock."""

from __future__ import annotations

import math
from collections import deque

MEMORY_S = 4.0
"""What was measured so long ago counts for a third of what is measured now."""
LEAST_MEASURED_S = 0.5
LONGEST_RETRY_AFTER_S = 600
DEFAULT_RETRY_AFTER_S = 5
"""While nothing is measured."""


class Throughput:
    """Tokens per second, of prompts and answers, over the time in which the engine had all that it may have."""

    def __init__(self) -> None:
        self._num_tokens = 0.0
        self._measured_s = 0.0

    def record(self, num_tokens: int, elapsed_s: float) -> None:
        """`num_tokens` were computed in these seconds, in which it had as much to do as it may."""
        kept = math.exp(-elapsed_s / MEMORY_S)
        self._num_tokens = self._num_tokens * kept + num_tokens
        self._measured_s = self._measured_s * kept + elapsed_s

    @property
    def tokens_per_s(self) -> float | None:
        """None: not measured yet."""
        if self._measured_s < LEAST_MEASURED_S or not self._num_tokens:
            return None
        return self._num_tokens / self._measured_s

    def time_for(self, num_tokens: int) -> float | None:
        """Seconds; None: not measured yet."""
        rate = self.tokens_per_s
        return None if rate is None else num_tokens / rate

    def retry_after_s(self, num_tokens: int) -> int:
        """Whole seconds after which this many tokens are done, 1 to 600."""
        time_s = self.time_for(num_tokens)
        return DEFAULT_RETRY_AFTER_S if time_s is None else retry_after(time_s)


def retry_after(time_s: float) -> int:
    """Whole seconds, 1 to 600."""
    return max(1, min(LONGEST_RETRY_AFTER_S, math.ceil(time_s)))


class Mean:
    """A mean that follows: each new value counts for a sixteenth."""

    def __init__(self, first: float | None = None) -> None:
        self._value = first

    @property
    def value(self) -> float | None:
        """None: there was no value yet."""
        return self._value

    def record(self, value: float) -> None:
        self._value = value if self._value is None else self._value + (value - self._value) / 16


class Flood:
    """Whether requests are refused so often that reading each of them would cost what the engine needs."""

    def __init__(self, num_refusals: int = 32, within_s: float = 1.0) -> None:
        self._refused_s: deque[float] = deque(maxlen=num_refusals)
        self._within_s = within_s

    def note(self, now_s: float) -> None:
        """One more was refused."""
        self._refused_s.append(now_s)

    def is_on(self, now_s: float) -> bool:
        refused_s = self._refused_s
        return len(refused_s) == refused_s.maxlen and now_s - refused_s[0] < self._within_s
