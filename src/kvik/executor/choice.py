"""Which executor a configuration asks for."""

from __future__ import annotations

from kvik.config import EngineConfig
from kvik.executor.base import Executor
from kvik.executor.multiproc import MultiProcExecutor
from kvik.executor.uniproc import UniProcExecutor


def make_executor(config: EngineConfig) -> Executor:
    """The engine's own process, or workers of it. Nothing is started yet."""
    return MultiProcExecutor(config) if config.parallel.executor == "mp" else UniProcExecutor(config)
