"""`python -m kvik.compilation.fill_cache`: compiles a model's pass in a process of its own, so that the disk holds it.

Reads one line of JSON, a `FillRequest`, and writes one, a `FillReply`. The model's weights are never read: graphs know
their shapes only. Ends when its input does, for then whoever asked is gone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from typing import Any

import msgspec

from kvik.config.compilation import CompilationConfig
from kvik.modelfile.spec import ModelSpec

_NICENESS = 19
"""The lowest priority: whoever serves requests comes first."""


class FillRequest(msgspec.Struct, frozen=True):
    spec: ModelSpec
    dtype: str
    compute_dtype: str
    device: str
    max_positions: int
    formats: dict[str, str]
    """How each matrix is kept, by name."""
    config: CompilationConfig
    num_threads: int
    """Of torch's, on which graphs depend."""
    rank: int = 0
    num_workers: int = 1
    """Where workers share the model: whose part of it."""


class FillReply(msgspec.Struct, frozen=True):
    seconds: float = 0.0
    num_graphs: int = 0
    num_from_cache: int = 0
    error: str | None = None
    """Why nothing was compiled."""


class CacheFiller:
    """The other process, seen from here."""

    def __init__(self, request: FillRequest) -> None:
        """Raises OSError where no process can be started."""
        environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "kvik.compilation.fill_cache"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        assert self._child.stdin is not None
        self._child.stdin.write(msgspec.json.encode(request) + b"\n")
        self._child.stdin.flush()

    def reply(self) -> FillReply | None:
        """None: it is still at work. Raises RuntimeError where nothing could be compiled."""
        status = self._child.poll()
        if status is None:
            return None
        assert self._child.stdout is not None
        text = self._child.stdout.read()
        self.stop()
        try:
            reply = msgspec.json.decode(text, type=FillReply)
        except msgspec.DecodeError:
            raise RuntimeError(f"the process that compiles ended with status {status}") from None
        if reply.error is not None:
            raise RuntimeError(reply.error)
        return reply

    def wait(self) -> None:
        """Until it has ended."""
        self._child.wait()

    def stop(self) -> None:
        """End it, if it is still at work."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def fill(request: FillRequest) -> FillReply:
    """Compile what the request describes."""
    import torch  # after the priority has been lowered: importing it is work, too

    from kvik.compilation.compiled_pass import CompilationError, CompiledPass
    from kvik.compilation.hollow import hollow_weights
    from kvik.models import build_model
    from kvik.parallel.group import Absent

    torch.set_num_threads(request.num_threads)
    device = torch.device(request.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    formats = request.formats

    def format_of(name: str, num_columns: int) -> str:
        return formats[name]

    # On a CPU memory that is not written is none.
    with hollow_weights(device) if device.type == "cuda" else contextlib.nullcontext():
        model = build_model(
            request.spec, getattr(torch, request.dtype), device, max_positions=request.max_positions,
            format_of=format_of, compute_dtype=getattr(torch, request.compute_dtype),
            group=Absent(request.rank, request.num_workers),
        )  # fmt: skip
    try:
        report = CompiledPass(model, request.config).compile()
    except (CompilationError, OSError) as error:
        return FillReply(error=str(error))
    return FillReply(report.seconds, report.num_graphs, report.num_from_cache)


def main() -> None:
    os.nice(_NICENESS)
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=FillRequest)
    threading.Thread(target=_end_with_input, daemon=True).start()
    reply = fill(request)
    sys.stdout.buffer.write(msgspec.json.encode(reply))
    sys.stdout.flush()
    _end(0)


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    _end(1)


def _end(status: int) -> Any:
    """At once: threads of the compiler's may be under way, and nothing here has to be put in order."""
    os._exit(status)


if __name__ == "__main__":
    main()
