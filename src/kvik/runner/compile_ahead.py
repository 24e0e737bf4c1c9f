"""Kernels are compiled while weights are read: the model runs once on nothing, in a thread, before it knows anything.

What Triton compiles is kept on disk, so this takes its time at the first start only; and there it costs nothing, as
reading takes longer. Failing costs nothing either: the kernels are compiled when they are first needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Thread

from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


@contextmanager
def compiling_ahead(run: Callable[[], None]) -> Iterator[None]:
    """Inside, `run` is called in a thread; at the end it is waited for."""

    def compile_all() -> None:
        started = time.perf_counter()
        try:
            run()
        except Exception as error:
            logger.warning("Kernels are not compiled ahead, but when they are needed: %s", error)
        else:
            logger.info("Kernels are ready after %.2f seconds", time.perf_counter() - started)

    thread = Thread(target=copy_context().run, args=(compile_all,), name="compile-ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
