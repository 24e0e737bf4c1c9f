"""From a configuration to an engine that is ready, with what its client needs to read and write text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kvik.config import EngineConfig
from kvik.config.recovery import RecoveryConfig
from kvik.engine_client.core_client import EngineCoreClient
from kvik.engine_client.listeners import StatLogger
from kvik.engine_client.supervisor import EngineSupervisor
from kvik.errors import NotSupportedYetError
from kvik.messages import EngineFacts
from kvik.telemetry.phases import PhaseTimer
from kvik.telemetry.timeline import Timeline
from kvik.text.chat_template import ChatTemplate
from kvik.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class StartedEngine:
    """All that was waited for."""

    engine: EngineSupervisor
    facts: EngineFacts
    tokenizer: Tokenizer
    chat_template: ChatTemplate
    stat_logger: StatLogger | None


async def start_engine(
    config: EngineConfig,
    first: EngineCoreClient | None,
    recovery: RecoveryConfig,
    make_chat_template: Callable[[Tokenizer], ChatTemplate],
    make_stat_logger: Callable[[EngineFacts], StatLogger] | None,
    phases: PhaseTimer,
    timeline: Timeline | None,
) -> StartedEngine:
    """The engine process and the tokenizer beside it. `first`: a process that was spawned before.

    Raises `ConfigError`, `ModelFileError`, `InsufficientMemoryError` or `EngineDeadError`; the engine process has ended
    then.
    """
    log_level = config.observability.log_level
    first = first or EngineCoreClient.spawn(log_level)
    engine = EngineSupervisor(first, recovery, lambda: EngineCoreClient.spawn(log_level))
    on_phase = timeline.observe if timeline is not None else lambda phase: None
    starting = asyncio.create_task(engine.start(config, on_phase))
    try:
        tokenizer, chat_template = await _load_text(config, phases, make_chat_template)
        ready = await starting
        stat_logger = make_stat_logger(ready.facts) if make_stat_logger is not None else None
    except BaseException:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await engine.shutdown()
        raise
    return StartedEngine(engine, ready.facts, tokenizer, chat_template, stat_logger)


async def _load_text(
    config: EngineConfig, timer: PhaseTimer, make_chat_template: Callable[[Tokenizer], ChatTemplate]
) -> tuple[Tokenizer, ChatTemplate]:
    """Tokenizer and chat template, read in a thread."""
    if config.model.skip_tokenizer_init:
        raise NotSupportedYetError("--skip-tokenizer-init for a server")
    with timer.phase("load tokenizer"):
        tokenizer = await asyncio.to_thread(Tokenizer.load, config.model.tokenizer)
    with timer.phase("chat template"):
        return tokenizer, make_chat_template(tokenizer)
