"""Signals, and what they mean where the process is in its life. Knows no HTTP and no engine.

While starting, a signal ends the start. While serving, the first one begins the drain, the second one stops at once.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Hears of SIGINT and SIGTERM. `on_signal` gets how many there were; serving replaces what starting set."""

    def __init__(self, on_signal: Callable[[int], object]) -> None:
        self.on_signal = on_signal
        self.num_signals = 0
        self.last_signal: int | None = None

    @property
    def was_asked(self) -> bool:
        return self.num_signals > 0

    def notify(self, signal_number: int) -> None:
        self.num_signals += 1
        self.last_signal = signal_number
        logger.info("%s received", signal.Signals(signal_number).name)
        self.on_signal(self.num_signals)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over the signals of the running loop."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.notify, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
