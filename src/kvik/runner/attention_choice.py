"""The attention backend that a configuration comes to. Knows neither its kernels nor its memory."""

from __future__ import annotations

import torch

from kvik.config import EngineConfig
from kvik.config.device_kind import name_of
from kvik.errors import ConfigError
from kvik.kernels.paged_attention.backends import Backend, Work, choose, describe
from kvik.plan.formats import Kind
from kvik.plan.step_memory import kv_cache_dtype
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


def attention_of(config: EngineConfig, kind: Kind) -> Backend:
    """A backend for one set of caches. Raises `ConfigError` where the one that was asked for cannot be."""
    model = config.model
    work = Work(
        on_gpu=kind == "cuda",
        dtype=getattr(torch, model.dtype) if kind == "cuda" else torch.float32,
        cache_dtype=getattr(torch, kv_cache_dtype(config, kind)),
        head_dim=model.spec.head_dim,
        block_size=config.cache.block_size,
    )
    asked = config.attention.backend
    try:
        return choose(asked, work)
    except ValueError as error:
        dtype = name_of(config.cache.kv_cache_dtype)
        flag = f"--attention-backend {asked}: " if asked else f"--kv-cache-dtype {dtype}: "
        raise ConfigError(f"{flag}{error}") from None


def say_attention(config: EngineConfig, kind: Kind) -> Backend:
    """`attention_of`, named in the log."""
    backend = attention_of(config, kind)
    logger.info("%s", describe(backend))
    return backend
