"""Small parts around uvicorn: quiet paths, prefixes of its lines, what a signal means when."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import pytest

from kvik.server.lifecycle import Stop
from kvik.server.serve import QuietPaths, log_config


@pytest.mark.parametrize(("path", "is_shown"), [("/health", False), ("/health?x=1", False), ("/v1/models", True)])
def test_access_lines_of_some_paths_are_dropped(path: str, is_shown: bool) -> None:
    arguments = ("1.2.3.4:5", "GET", path, "1.1", 200)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', arguments, None)
    assert QuietPaths(frozenset({"/health", "/metrics"})).filter(record) is is_shown


def test_lines_of_uvicorn_carry_the_process() -> None:
    formats = [formatter["fmt"] for formatter in log_config()["formatters"].values()]
    assert all(fmt.startswith(f"(APIServer pid={os.getpid()}) ") for fmt in formats)


def test_signals_are_counted_and_passed_on() -> None:
    async def scenario() -> list[int]:
        counts: list[int] = []
        heard = asyncio.Event()

        def on_signal(count: int) -> None:
            counts.append(count)
            heard.set()

        stop = Stop(on_signal)
        with stop.listening():
            for number in (signal.SIGTERM, signal.SIGINT):
                heard.clear()
                os.kill(os.getpid(), number)
                await heard.wait()
        assert stop.last_signal == signal.SIGINT
        return counts

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert asyncio.run(scenario()) == [1, 2]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
