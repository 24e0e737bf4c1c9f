"""`--attention-backend` and `--attention-config`: which attention computes. Knows the names, not the kernels.

Names and keys are the interface's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvik.errors import ConfigError, NotSupportedYetError

BACKENDS = ("TRITON_ATTN", "FLASH_ATTN", "FLASHINFER", "TORCH_SDPA", "CPU_ATTN")
_FLAG, _JSON_FLAG = "--attention-backend", "--attention-config"


@dataclass(frozen=True)
class AttentionConfig:
    backend: str | None = None
    """One of `BACKENDS`; None: the best one that the device has."""


def attention_config_of(backend: str | None, asked: Any) -> AttentionConfig:
    """From the flag and the JSON object. Raises `ConfigError` for what they cannot be, and where they disagree."""
    if not isinstance(asked, Mapping | None):
        raise ConfigError(f"{_JSON_FLAG} takes a JSON object, got {asked!r}")
    given = dict(asked or {})
    in_json = given.pop("backend", None)
    if given:
        raise NotSupportedYetError(f"{_JSON_FLAG} with {', '.join(map(repr, given))}", "it takes 'backend'")
    if backend is not None and in_json is not None and backend != in_json:
        raise ConfigError(f"{_FLAG} {backend} and 'backend': {in_json!r} in {_JSON_FLAG} disagree: give one of them")
    chosen = backend if backend is not None else in_json
    if chosen is not None and chosen not in BACKENDS:
        raise NotSupportedYetError(
            f"{_FLAG} {chosen}" if backend else f"{_JSON_FLAG} with backend {chosen!r}",
            f"the attention backends here are {', '.join(BACKENDS)}",
        )
    return AttentionConfig(chosen)
