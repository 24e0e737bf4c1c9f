"""The loop of a started engine: messages in, one step, one message out. Knows the socket and `EngineCore`."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from kvik.engine.core import EngineCore
from kvik.errors import KvikError, WireError
from kvik.messages import Abort, NewRequest, Shutdown, ToEngine, UtilityCall, UtilityResult
from kvik.telemetry.log import get_logger
from kvik.wire.engine_socket import EngineSocket

logger = get_logger(__name__)


def serve(socket: EngineSocket, core: EngineCore) -> None:
    """Until `Shutdown`. Raises what is about all requests."""
    while True:
        core.turn()
        for message in _arrived(socket, core):
            if isinstance(message, Shutdown):
                return
            _handle(message, socket, core)
        core.times.passed_on()
        outputs = core.step()
        core.times.go()
        if outputs is not None:
            socket.send(outputs)
            core.times.passed_on()
            if not core.has_work and logger.isEnabledFor(logging.DEBUG):
                core.check_integrity()


def _arrived(socket: EngineSocket, core: EngineCore) -> Iterator[ToEngine]:
    """All messages that are there; with nothing to compute, sleeps until there is one."""
    try:
        if not core.has_work:
            message = socket.receive(core.patience_s)
            core.times.go()  # that was sleep
            if message is not None:
                yield message
            else:
                core.use_idle_time()
        yield from socket.drain()
    except WireError as error:
        logger.error("%s", error)
        if error.request_id is not None:
            core.reject(error.request_id, str(error))


def _handle(message: ToEngine, socket: EngineSocket, core: EngineCore) -> None:
    if isinstance(message, NewRequest):
        core.add_request(message)
    elif isinstance(message, Abort):
        core.abort(message.request_ids)
    elif isinstance(message, UtilityCall):
        _answer(message, socket, core)
    else:
        logger.error("a %s is of no use once the engine runs; ignored", type(message).__name__)


def _answer(call: UtilityCall, socket: EngineSocket, core: EngineCore) -> None:
    """The method's value, or the text of whatever went wrong, the encoding of that value included."""
    try:
        socket.send(UtilityResult(call.call_id, core.utility(call.method, call.args)))
    except KvikError as error:
        socket.send(UtilityResult(call.call_id, failure=str(error), is_foreseen=True))
    except Exception as error:
        logger.exception("utility call %s failed", call.method)
        socket.send(UtilityResult(call.call_id, failure=f"{type(error).__name__}: {error}"))
