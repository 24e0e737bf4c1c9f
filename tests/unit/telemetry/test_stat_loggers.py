from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from kvik.config import EngineConfig, ModelConfig, ObservabilityConfig
from kvik.messages import EngineFacts, SchedulerStats
from kvik.modelfile import ModelSpec, RopeSpec
from kvik.telemetry.log_stats import LogStats
from kvik.telemetry.stat_loggers import StatLoggerManager
from kvik.telemetry.stats import IterationStats

SPEC = ModelSpec("LlamaForCausalLM", 32, 8, 16, 1, 2, 1, 4, 64, 1e-5, RopeSpec(theta=1.0))
CONFIG = EngineConfig(ModelConfig("/m", SPEC, "/m", ("served",)))
FACTS = EngineFacts("cpu", "avx2", 2, 10, 1000, 64, 16, 512)


class Recorder:
    def __init__(self) -> None:
        self.heard: list[tuple[SchedulerStats | None, IterationStats | None]] = []

    def record(self, stats: SchedulerStats | None, iteration: IterationStats | None) -> None:
        self.heard.append((stats, iteration))


def test_every_logger_hears_every_step() -> None:
    loggers = [Recorder(), Recorder()]
    manager = StatLoggerManager(loggers)
    step = (SchedulerStats(num_running=1), IterationStats())
    manager.record(*step)
    assert [logger.heard for logger in loggers] == [[step], [step]]


def test_metrics_and_line_of_a_config(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="kvik")
    registry = CollectorRegistry()
    manager = StatLoggerManager.from_config(CONFIG, FACTS, registry)
    assert manager.is_active
    manager.record(SchedulerStats(num_running=7), IterationStats())
    manager.log()
    labels = {"model_name": "served", "engine": "0"}
    assert registry.get_sample_value("kvik:num_requests_running", labels) == 7
    assert "Running: 7 reqs" in caplog.text


def test_disabled_log_stats_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="kvik")
    registry = CollectorRegistry()
    config = replace(CONFIG, observability=ObservabilityConfig(log_stats=False))
    manager = StatLoggerManager.from_config(config, FACTS, registry)
    manager.record(SchedulerStats(), IterationStats())
    manager.log()
    asyncio.run(manager.run())
    assert not manager.is_active
    assert list(registry.collect()) == []
    assert caplog.records == []


def test_a_line_per_interval_until_cancelled() -> None:
    class Line(LogStats):
        def log(self) -> None:
            logged.append(1)
            if len(logged) == 3:
                task.cancel()

    logged: list[int] = []

    async def run() -> None:
        nonlocal task
        task = asyncio.ensure_future(StatLoggerManager(log_line=Line("cpu"), interval_s=0.0).run())
        with pytest.raises(asyncio.CancelledError):
            await task

    task: asyncio.Future[None]
    asyncio.run(run())
    assert len(logged) == 3
