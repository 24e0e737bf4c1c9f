"""The worker processes of one engine: started, told, asked, missed when they are gone, and ended.

Knows messages, and nothing of what they do.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kvik import errors
from kvik.errors import EngineError, KvikError
from kvik.executor.link import Link, frame_of
from kvik.executor.progress_page import ProgressPage
from kvik.executor.worker_messages import FromWorker, WorkerFailed
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

_LOOK_S = 0.25
"""How often somebody who waits for an answer looks at the count of progress."""
_FIRST_CAUSE_S = 1.0
"""A worker that is gone makes others fail, whose word may come first: so long the one that is gone is looked for."""
_END_S = 5.0
"""What a worker that was let go of may take to end."""


@dataclass(frozen=True)
class _Worker:
    name: str
    process: subprocess.Popen[bytes]
    link: Link[FromWorker]

    @property
    def end(self) -> str:
        """How it ended, in words."""
        with suppress(subprocess.TimeoutExpired):
            status = self.process.wait(_FIRST_CAUSE_S)
            return signal.Signals(-status).name if status < 0 else f"exit code {status}"
        return "it closed its socket"


class Workers:
    """`size` of them, from the first moment on. All methods raise `EngineError` once one of them is gone."""

    def __init__(self, environments: Sequence[Mapping[str, str]], log_level: str) -> None:
        """`environments`: what each worker has beside this process' environment."""
        self.page = ProgressPage()
        self._folder = Path(tempfile.mkdtemp(prefix="kvik-tp-"))
        self.meeting = self._folder / "meeting"
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        for rank, own in enumerate(environments):
            worker = self._launch(f"Worker_TP{rank}", {**os.environ, **own}, log_level)
            self._workers.append(worker)
            self._selector.register(worker.link, selectors.EVENT_READ, rank)

    def _launch(self, name: str, environment: Mapping[str, str], log_level: str) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (theirs.fileno(), self.page.fileno())
            command = [sys.executable, "-m", "kvik.executor.worker", name, *map(str, descriptors), log_level]
            process = subprocess.Popen(command, pass_fds=descriptors, env=environment, stdin=subprocess.DEVNULL)
        logger.info("%s has pid %d", name, process.pid)
        return _Worker(name, process, Link(ours, msgspec.msgpack.Decoder(FromWorker)))

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers]

    def tell(self, rank: int, message: object) -> None:
        self._send(self._workers[rank], frame_of(message))

    def tell_all(self, message: object) -> None:
        frame = frame_of(message)
        for worker in self._workers:
            self._send(worker, frame)

    def collect(self, take: Callable[[int, FromWorker], bool], on_wait: Callable[[], None] = lambda: None) -> None:
        """Receive until `take(rank, message)` was true once for each worker. `on_wait` is called now and then.

        Raises `KvikError`, as the worker named it, where one has failed.
        """
        awaited = set(range(len(self._workers)))
        while awaited:
            ready = self._selector.select(_LOOK_S)
            on_wait()
            for key, _ in ready:
                rank: int = key.data
                message = self._workers[rank].link.receive()
                if message is None or isinstance(message, WorkerFailed):
                    raise self._failure(rank, message)
                if take(rank, message):
                    awaited.discard(rank)

    def check(self) -> None:
        """Raises `EngineError` if one is gone."""
        for rank, worker in enumerate(self._workers):
            if worker.process.poll() is not None:
                raise self._failure(rank, None)

    def end(self) -> None:
        """Let go of all, and see that they end. May be called twice."""
        for worker in self._workers:
            worker.link.close()
        deadline = time.monotonic() + _END_S
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("%s (pid %d) does not end and is killed", worker.name, worker.process.pid)
                worker.process.kill()
                worker.process.wait()
        self._workers = []
        self._selector.close()
        self.page.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, worker: _Worker, frame: bytes) -> None:
        try:
            worker.link.send_frame(frame)
        except OSError:
            raise self._failure(self._workers.index(worker), None) from None

    def _failure(self, rank: int, word: FromWorker | None) -> KvikError:
        """What is to be raised: the word of a worker, unless another one is gone without any."""
        if isinstance(word, WorkerFailed):
            gone = self._gone_without_a_word(rank) if word.error in ("", EngineError.__name__) else None
            if gone is None:
                return _error_of(self._workers[rank].name, word)
            worker = gone
        else:
            worker = self._workers[rank]
        return EngineError(f"{worker.name} (pid {worker.process.pid}) has ended: {worker.end}")

    def _gone_without_a_word(self, but: int) -> _Worker | None:
        """A worker that a signal has ended."""
        deadline = time.monotonic() + _FIRST_CAUSE_S
        others = [worker for rank, worker in enumerate(self._workers) if rank != but]
        while time.monotonic() < deadline:
            for worker in others:
                status = worker.process.poll()
                if status is not None and status < 0:
                    return worker
            time.sleep(0.01)
        return None


def _error_of(name: str, failed: WorkerFailed) -> KvikError:
    """As the class that it had there; `EngineError` for what was not foreseen."""
    kind = getattr(errors, failed.error, None) if failed.error else None
    if isinstance(kind, type) and issubclass(kind, (errors.ModelFileError, errors.InsufficientMemoryError)):
        return kind(failed.message)
    if isinstance(kind, type) and issubclass(kind, errors.ConfigError):
        return errors.ConfigError(failed.message)
    return EngineError(f"{name}: {failed.message}")
