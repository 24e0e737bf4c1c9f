"""A stand-in for the engine process, as a script: `python fake_engine.py BEHAVIOUR ADDRESS`. No torch, no model.

serve      a good engine, whose every request gets token 97 and ends; its methods are `echo` and `fail`
refuse     cannot start
mute       ends before its first word
crash      ends with exit code 3 at the first request
last_word  says why it ends, at the first request
stubborn   heeds neither Shutdown nor SIGTERM
"""

from __future__ import annotations

import os
import signal
import sys

from kvik.messages import (
    EngineFacts,
    EngineFailed,
    FinishReason,
    Hello,
    NewRequest,
    Phase,
    Ready,
    Shutdown,
    StartFailed,
    StartupProgress,
    StepOutputs,
    TokenDelta,
    UtilityCall,
    UtilityResult,
)
from kvik.wire.sockets import EngineSocket


def main(behaviour: str, address: str) -> None:
    if behaviour == "mute":
        return
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    socket = EngineSocket(address)
    socket.send(Hello(os.getpid()))
    socket.receive()
    if behaviour == "refuse":
        socket.send(StartFailed("InsufficientMemoryError", "needs 9 GiB, has 1"))
    else:
        phase = Phase("load weights", "EngineCore", 1.0, 2.0)
        socket.send(StartupProgress(phase))
        facts = EngineFacts("cpu", "reference", 1, 0, 0, num_blocks=4, block_size=16, max_model_len=64)
        socket.send(Ready(facts, [phase]))
        serve(socket, behaviour)
    socket.close(linger_s=5.0)


def serve(socket: EngineSocket, behaviour: str) -> None:
    while True:
        message = socket.receive()
        if isinstance(message, NewRequest):
            if behaviour == "crash":
                os._exit(3)
            if behaviour == "last_word":
                socket.send(EngineFailed("out of paper"))
                return
            socket.send(StepOutputs([TokenDelta(message.request_id, [97], finish_reason=FinishReason.LENGTH)], 1.0))
        elif isinstance(message, UtilityCall):
            failure = "as asked" if message.method == "fail" else None
            socket.send(UtilityResult(message.call_id, message.args, failure))
        elif isinstance(message, Shutdown) and behaviour != "stubborn":
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
