"""The engine process: `python -m kvik.engine.process ADDRESS [--log-level LEVEL]`. A shell around `EngineCore`.

It says `Hello` before anything slow, imports torch while the other side makes up its mind, loads when `Start` comes,
says `Ready`, and then runs one loop: take what has arrived, compute one step, send what it brought. Without work it
sleeps in the socket's poll. Sockets have no threads of their own: reading a step's messages takes microseconds.

Exit codes: 0 after `Shutdown`, 1 after any error, 143 after SIGTERM. The last message says which error it was.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import sys
from collections.abc import Callable

from kvik import FIRST_LINE_S
from kvik.config import EngineConfig
from kvik.engine.core import EngineCore
from kvik.engine.lifeline import end_with_parent, heed_signals, let_signals_end_us
from kvik.engine.loop import serve
from kvik.errors import EngineError, KvikError
from kvik.executor.base import Executor
from kvik.messages import EngineFailed, Hello, Ready, Shutdown, Start, StartFailed, StartupProgress
from kvik.telemetry.log import configure_logging, get_logger
from kvik.telemetry.phases import PhaseTimer
from kvik.wire.engine_socket import EngineSocket
from kvik.wire.pulse import STACKS_SIGNAL, PulseWriter, pulse_path

logger = get_logger("kvik.engine.process")  # not __name__, which is __main__ here

PROCESS_NAME = "EngineCore_DP0"
START_TIMEOUT_S = 300.0
"""Nobody who is alive takes longer between starting this process and telling it what to do."""
LAST_WORD_LINGER_S = 2.0

MakeExecutor = Callable[[EngineConfig], Executor]


def main(argv: list[str] | None = None) -> int:
    """The process' exit code."""
    parser = argparse.ArgumentParser(prog="kvik.engine.process", description="kvik's engine; started by kvik itself")
    parser.add_argument("address", help="where the API process listens, such as ipc:///tmp/kvik-1234/engine")
    parser.add_argument(
        "--log-level", default="INFO", type=str.upper, choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    )
    args = parser.parse_args(argv)
    wakeup = heed_signals()
    end_with_parent()
    faulthandler.enable()
    faulthandler.register(STACKS_SIGNAL, all_threads=True)
    configure_logging(PROCESS_NAME, args.log_level)
    try:
        pulse = PulseWriter(pulse_path(args.address))
        return run_engine(EngineSocket(args.address, wakeup), _import_executor, pulse)
    finally:
        let_signals_end_us()


def _import_executor() -> MakeExecutor:
    """The slow import: torch comes with it."""
    from kvik.executor.choice import make_executor

    return make_executor


def run_engine(
    socket: EngineSocket, import_executor: Callable[[], MakeExecutor], pulse: PulseWriter | None = None
) -> int:
    """From `Hello` to the exit code. Closes the socket. Ends with an exception only when a signal unwinds it."""
    core = None
    try:
        socket.send(Hello(os.getpid()))
        core = _start(socket, import_executor, pulse)
        if core is not None:
            serve(socket, core)
        return 0
    except _StartFailedError:
        return 1
    except SystemExit:
        socket.send(EngineFailed("the engine process was terminated"))
        raise
    except Exception as error:
        logger.exception("the engine's loop has failed")
        faulthandler.dump_traceback(sys.__stderr__ or 2)
        socket.send(EngineFailed(f"{type(error).__name__}: {error}"))
        return 1
    finally:
        if core is not None:
            core.shutdown()
        socket.close(LAST_WORD_LINGER_S)


class _StartFailedError(Exception):
    """The other side knows already."""


# --- the start --------------------------------------------------------------------------------------


def _start(
    socket: EngineSocket, import_executor: Callable[[], MakeExecutor], pulse: PulseWriter | None
) -> EngineCore | None:
    """A loaded engine that has said `Ready`; None when `Shutdown` came instead of `Start`.

    Raises `_StartFailedError` once `StartFailed` has said why.
    """
    phases = PhaseTimer(PROCESS_NAME, on_phase=lambda phase: socket.send(StartupProgress(phase)))
    try:
        phases.add_interpreter(FIRST_LINE_S)
        with phases.phase("imports", FIRST_LINE_S):
            make_executor = import_executor()
        start = _await_start(socket)
        if start is None:
            return None
        core = EngineCore(start.config, make_executor(start.config), pulse=pulse)
        facts = core.start(phases)
    except KvikError as error:
        logger.error("the engine cannot start: %s", str(error).partition("\n")[0])  # the API process says all of it
        socket.send(StartFailed(type(error).__name__, str(error)))
        raise _StartFailedError from error
    except Exception as error:
        logger.exception("the engine cannot start")
        socket.send(StartFailed("", f"{type(error).__name__}: {error}"))
        raise _StartFailedError from error
    with phases.phase("settle"):
        gc.collect()
        gc.freeze()  # what the start has made lives as long as the process: no collection needs to walk it again
    socket.send(Ready(facts, phases.phases))
    return core


def _await_start(socket: EngineSocket) -> Start | None:
    """None when a `Shutdown` came first. Raises `EngineError` when nothing comes, or something else."""
    message = socket.receive(START_TIMEOUT_S)
    if message is None:
        raise EngineError(f"no Start came within {START_TIMEOUT_S:.0f} s of Hello")
    if isinstance(message, Shutdown):
        return None
    if not isinstance(message, Start):
        raise EngineError(f"the first message must be Start, got {type(message).__name__}")
    return message


if __name__ == "__main__":
    sys.exit(main())
