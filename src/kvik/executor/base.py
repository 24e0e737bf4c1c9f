"""What the engine asks of whoever computes its steps."""

from __future__ import annotations

from typing import Protocol

from kvik.messages import EngineFacts, LoraRequest
from kvik.step import MemoryPart, StepPlan, StepResult
from kvik.telemetry.phases import PhaseTimer


class StepInFlight(Protocol):
    """A step that was submitted."""

    def result(self) -> StepResult:
        """Wait until it is computed. Raises what `Executor.execute` raises. Asked once, in the order of the steps."""


class Executor(Protocol):
    """One `StepPlan` in, one `StepResult` out. Built from an `EngineConfig`; `start` comes first, once."""

    def start(self, phases: PhaseTimer) -> EngineFacts:
        """Load the weights, size and reserve the KV cache, warm up.

        Raises `ModelFileError`, `UnsupportedArchitectureError` or `InsufficientMemoryError`.
        """

    def execute(self, plan: StepPlan) -> StepResult:
        """Compute one step. What a single request causes is its `SampledTokens.error`, not an exception."""

    def submit(self, plan: StepPlan) -> StepInFlight:
        """Begin a step without waiting for those before it, after which it is computed.

        Shares may go on from a token that the step before chooses (`ScheduledRequest.input_in_flight`). Nothing but
        `submit` and `count_progress_at` is called while a step is under way.
        """

    def release(self, part: MemoryPart) -> int:
        """Give the memory of `part` back to the system, bytes; its contents are lost, no step may need them."""

    def restore(self, part: MemoryPart) -> None:
        """Make `part` usable again after `release`: the KV cache is zeros, the weights are the checkpoint's.

        Raises `ModelFileError` where the checkpoint cannot be read any more, or is of another model.
        """

    def count_progress_at(self, address: int) -> None:
        """From now on, count up the u64 at `address` with each piece of work inside of a step."""

    def use_idle_time(self) -> bool:
        """Do a piece of what later steps will be glad of, a fraction of a second's work. Whether there is more."""

    def load_lora(self, lora: LoraRequest, slot: int | None) -> None:
        """Put an adapter into a slot that no running request uses; None: only see whether it could be.

        Raises `ModelFileError` where it cannot, `ConfigError` where adapters are off.
        """

    def shutdown(self) -> None:
        """Give back threads, memory and worker processes."""
