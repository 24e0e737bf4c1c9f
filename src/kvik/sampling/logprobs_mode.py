"""Which numbers are told as log probabilities."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from kvik.errors import ConfigError

LogprobsMode = Literal["raw_logprobs", "raw_logits", "processed_logprobs", "processed_logits"]


class LogprobsKind(NamedTuple):
    raw: bool
    """The model's; otherwise those that the draw saw, -inf where a token was ruled out."""
    normalize: bool
    """Log probabilities; otherwise logits."""


def kind_of(mode: str) -> LogprobsKind:
    """Raises `ConfigError` for a mode that is none."""
    if mode not in get_args(LogprobsMode):
        raise ConfigError(f"logprobs mode must be one of {', '.join(get_args(LogprobsMode))}, got {mode!r}")
    return LogprobsKind(mode.startswith("raw"), mode.endswith("logprobs"))
