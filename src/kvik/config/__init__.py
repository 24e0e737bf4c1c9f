"""What was asked. Frozen dataclasses by group; the command line's flags are made from them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvik.config.engine import (
        CacheConfig,
        DeviceConfig,
        EngineConfig,
        LoadConfig,
        ModelConfig,
        ObservabilityConfig,
        ParallelConfig,
        SchedulerConfig,
    )

__all__ = [
    "CacheConfig",
    "DeviceConfig",
    "EngineConfig",
    "LoadConfig",
    "ModelConfig",
    "ObservabilityConfig",
    "ParallelConfig",
    "SchedulerConfig",
]


def __getattr__(name: str) -> Any:
    """Import the engine's config, and with it the checkpoint readers, only when it is used: help must be instant."""
    if name in __all__:
        return getattr(import_module("kvik.config.engine"), name)
    raise AttributeError(f"module 'kvik.config' has no attribute {name!r}")
