"""How long the engine's steps take, and which part of them how long."""

from __future__ import annotations

from collections.abc import Sequence

from kvik.messages import StepTimes
from kvik.telemetry.metric_maker import MetricMaker

STEP_PARTS = ("schedule", "execute", "sample", "update", "wire")


class StepMetrics:
    """One observation per part and step that computed something."""

    def __init__(self, make: MetricMaker, bounds: Sequence[float]) -> None:
        self._step = make.histogram("engine_step_time_seconds", "From planning a step to its result.", bounds)
        parts = make.histograms(
            "engine_step_part_time_seconds",
            "Parts of a step: planning, the model, choosing tokens, taking in the result; wire: messages before it.",
            "part", STEP_PARTS, bounds,
        )  # fmt: skip
        self._schedule, self._execute, self._sample, self._update, self._wire = (parts[part] for part in STEP_PARTS)

    def record(self, step_time_s: float, times: StepTimes) -> None:
        self._step.observe(step_time_s)
        self._schedule.observe(times.schedule_s)
        self._execute.observe(times.execute_s)
        self._sample.observe(times.sample_s)
        self._update.observe(times.update_s)
        self._wire.observe(times.wire_s)
