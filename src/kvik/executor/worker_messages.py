"""All that passes between the engine process and its workers. Knows no socket.

Towards a worker: `WorkerStart` once; then `Submit`s, each of which is answered when `Collect` asks for it, and calls,
each answered by one `Done`. A worker does what it is told in the order in which it comes; its end is the end of the
socket. Arrays of msgpack on the way, as `kvik/messages.py` has it.
"""

from __future__ import annotations

import msgspec

from kvik.config import EngineConfig
from kvik.messages import EngineFacts, LoraRequest, Phase
from kvik.step import MemoryPart, StepPlan, StepResult


class _Message(msgspec.Struct, array_like=True, tag=True, gc=False):
    """Tagged, so that a decoder of the union knows which it is."""


# --- towards a worker -------------------------------------------------------------------------------


class WorkerStart(_Message):
    config: EngineConfig
    rank: int
    meeting: str
    """Path of a file through which the workers find each other."""


class Submit(_Message):
    plan: StepPlan


class Collect(_Message):
    """The first submitted step that was not collected yet."""


class Release(_Message):
    part: MemoryPart


class Restore(_Message):
    part: MemoryPart


class UseIdleTime(_Message):
    pass


class LoadLora(_Message):
    lora: LoraRequest
    slot: int | None


Call = Release | Restore | UseIdleTime | LoadLora
ToWorker = WorkerStart | Submit | Collect | Call


# --- from a worker ----------------------------------------------------------------------------------


class WorkerPhase(_Message):
    """A phase of the start has begun, come further, or ended."""

    phase: Phase


class WorkerReady(_Message):
    facts: EngineFacts


class Stepped(_Message):
    tokens_checksum: int
    """Of all chosen tokens: the workers choose the same ones, or something is broken."""
    result: StepResult | None
    """The first worker's; the others' would be the same."""


class Done(_Message):
    value: int = 0
    error: str | None = None
    """Class name of a `KvikError` that changes nothing for other requests."""
    message: str = ""


class WorkerFailed(_Message):
    """The last word of a worker. `error` is a class name of `kvik.errors`, or "" for an unforeseen error."""

    error: str
    message: str


FromWorker = WorkerPhase | WorkerReady | Stepped | Done | WorkerFailed
