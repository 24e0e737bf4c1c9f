"""A worker process: `python -m kvik.executor.worker Worker_TP0 SOCKET PAGE LEVEL`; started by the engine process.

It has its part of the model and does what the engine says, in that order, in one thread; another one takes in what
comes, so that the engine never waits to be heard, and ends the process when the engine is gone.

Exit codes: 0 when the engine let go of it, 1 after any error, which its last message names.
"""

from __future__ import annotations

import argparse
import faulthandler
import mmap
import os
import queue
import signal
import socket
import sys
import threading
import zlib
from collections import deque
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from kvik import FIRST_LINE_S
from kvik.errors import EngineError, KvikError
from kvik.executor.base import StepInFlight
from kvik.executor.device_choice import open_device
from kvik.executor.link import Link
from kvik.executor.progress_page import address_of
from kvik.executor.worker_messages import (
    Call,
    Collect,
    Done,
    LoadLora,
    Release,
    Restore,
    Stepped,
    Submit,
    ToWorker,
    UseIdleTime,
    WorkerFailed,
    WorkerPhase,
    WorkerReady,
    WorkerStart,
)
from kvik.parallel.group import ALONE, Group
from kvik.parallel.torch_group import TorchGroup
from kvik.runner.device import Device
from kvik.runner.model_runner import ModelRunner
from kvik.step import StepPlan, StepResult
from kvik.telemetry.log import configure_logging, get_logger
from kvik.telemetry.phases import PhaseTimer

logger = get_logger("kvik.executor.worker")  # not __name__, which is __main__ here


def main(argv: list[str] | None = None) -> int:
    """The process' exit code."""
    parser = argparse.ArgumentParser(prog="kvik.executor.worker", description="part of a model; started by kvik itself")
    parser.add_argument("name", help="in log lines and in the list of processes: Worker_TP0")
    parser.add_argument("socket", type=int, help="descriptor of the way to the engine")
    parser.add_argument("page", type=int, help="descriptor of the page where progress is counted")
    parser.add_argument("level", help="least level that is logged")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the API process decides
    faulthandler.enable()
    _name_process(args.name)
    configure_logging(args.name, args.level)
    link: Link[ToWorker] = Link(socket.socket(fileno=args.socket), msgspec.msgpack.Decoder(ToWorker))
    try:
        Worker(args.name, link, mmap.mmap(args.page, mmap.PAGESIZE)).run()
    except KvikError as error:
        logger.error("%s cannot go on: %s", args.name, error)
        _say_farewell(link, WorkerFailed(type(error).__name__, str(error)))
        return 1
    except Exception as error:
        logger.exception("%s has failed", args.name)
        _say_farewell(link, WorkerFailed("", f"{type(error).__name__}: {error}"))
        return 1
    return 0


class Worker:
    def __init__(self, name: str, link: Link[ToWorker], page: mmap.mmap) -> None:
        self._name = name
        self._link = link
        self._page = page
        self._arrived: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self._steps: deque[StepResult | StepInFlight] = deque()

    def run(self) -> None:
        """Until the engine lets go, which ends the process. Raises what ends it otherwise."""
        start = self._link.receive()
        if not isinstance(start, WorkerStart):
            return  # the engine has gone, or its start has failed elsewhere
        threading.Thread(target=self._take_in, name="engine", daemon=True).start()
        self._runner = self._start(start)
        self._is_first = start.rank == 0
        while True:
            self._handle(self._arrived.get())

    def _start(self, start: WorkerStart) -> ModelRunner:
        phases = PhaseTimer(self._name, on_phase=lambda phase: self._link.send(WorkerPhase(phase)))
        phases.add_interpreter(FIRST_LINE_S)
        with phases.phase("platform", FIRST_LINE_S):
            device = open_device(start.config)
        with phases.phase("connect"):
            group = _group(start, device)
        runner = ModelRunner(start.config, device, group)
        facts = runner.start(phases)
        if start.rank == 0:
            runner.count_progress_at(address_of(self._page))
        self._link.send(WorkerReady(facts))
        return runner

    def _handle(self, message: ToWorker) -> None:
        if isinstance(message, Submit):
            self._steps.append(self._submit(message.plan))
        elif isinstance(message, Collect):
            step = self._steps.popleft()
            result = step if isinstance(step, StepResult) else step.result()
            self._link.send(Stepped(_checksum(result), result if self._is_first else None))
        elif isinstance(message, Call):
            self._link.send(self._done(message))
        else:
            raise EngineError(f"a {type(message).__name__} is of no use to a worker that runs")

    def _submit(self, plan: StepPlan) -> StepResult | StepInFlight:
        """On a CPU the step is computed now, while the engine does something else."""
        return self._runner.submit(plan) if self._runner.launches else self._runner.execute(plan)

    def _done(self, call: Call) -> Done:
        try:
            return Done(self._call(call))
        except KvikError as error:
            return Done(error=type(error).__name__, message=str(error))

    def _call(self, call: Call) -> int:
        if isinstance(call, Release):
            return self._runner.release(call.part)
        if isinstance(call, LoadLora):
            self._runner.load_lora(call.lora, call.slot)
        elif isinstance(call, UseIdleTime):
            return int(self._runner.use_idle_time())
        elif isinstance(call, Restore):
            self._runner.restore(call.part)
        return 0

    def _take_in(self) -> None:
        try:
            while (message := self._link.receive()) is not None:
                self._arrived.put(message)
        except KvikError as error:
            logger.error("%s", error)
            os._exit(1)
        os._exit(0)  # at once: the main thread may wait for a worker that is gone, too


def _group(start: WorkerStart, device: Device) -> Group:
    size = start.config.parallel.tensor_parallel_size
    return ALONE if size == 1 else TorchGroup(start.rank, size, Path(start.meeting), device.place)


def _checksum(result: StepResult) -> int:
    token_ids = [token_id for sampled in result.sampled for token_id in (-1, *sampled.token_ids)]
    return zlib.crc32(np.array(token_ids, dtype=np.int64).tobytes())


def _say_farewell(link: Link[ToWorker], message: WorkerFailed) -> None:
    with suppress(OSError):  # the engine may be gone already
        link.send(message)


def _name_process(name: str) -> None:
    """As `ps` and `top` show it; Linux only."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # not through destructors of collectives, which wait for workers that may be gone
