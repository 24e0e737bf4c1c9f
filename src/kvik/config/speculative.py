"""`--speculative-config`: drafts without a draft model. Reads the JSON object's keys and refuses what does not fit.

Knows no engine; the keys and defaults are the interface's.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from kvik.errors import ConfigError

METHODS = ("ngram", "suffix")
MAX_DRAFTS_PER_STEP = 64
"""Tokens drafted for all requests of a step: more never pay, and each takes a row of logits."""
_FLAG = "--speculative-config"
_KEYS_OF_DRAFT_MODELS = {
    "model", "revision", "quantization", "max_model_len", "draft_tensor_parallel_size", "draft_sample_method",
    "rejection_sample_method", "parallel_drafting", "disable_padded_drafter_batch", "enforce_eager",
    "attention_backend",
}  # fmt: skip


@dataclass(frozen=True)
class SpeculativeConfig:
    """Complete and checked."""

    method: str
    """"ngram" or "suffix"."""
    num_speculative_tokens: int
    """Most tokens drafted for a request in a step."""
    prompt_lookup_min: int = 5
    """ngram: tokens of the shortest match."""
    prompt_lookup_max: int = 5
    """ngram: tokens of the longest match."""
    suffix_decoding_max_tree_depth: int = 24
    """suffix: tokens of the longest match."""
    suffix_decoding_max_cached_requests: int = 10_000
    """suffix: answers of earlier requests that drafts may come from; 0: own tokens only."""
    suffix_decoding_max_spec_factor: float = 1.0
    """suffix: tokens drafted per token matched."""
    suffix_decoding_min_token_prob: float = 0.1
    """suffix: a draft ends where its probability, by the counts, falls below this."""

    @property
    def max_drafts_per_step(self) -> int:
        return max(MAX_DRAFTS_PER_STEP, self.num_speculative_tokens)


def speculative_config_of(
    asked: Mapping[str, Any] | None, method: str | None = None, num_tokens: int | None = None
) -> SpeculativeConfig | None:
    """From the flag's object, --spec-method and --spec-tokens; None: nothing is asked for. Raises `ConfigError`."""
    given = _merged(asked, method, num_tokens)
    if not given:
        return None
    chosen = given.pop("method", None)
    _require(chosen in METHODS, f"'method' takes {_words(METHODS)} (drafts without a draft model), got {chosen!r}")
    _check_keys(chosen, given)
    values = {key: _number(key, value) for key, value in given.items() if value is not None}
    return SpeculativeConfig(method=chosen, **(_ngram(values) if chosen == "ngram" else _suffix(values)))


def _merged(asked: Mapping[str, Any] | None, method: str | None, num_tokens: int | None) -> dict[str, Any]:
    _require(asked is None or isinstance(asked, Mapping), f"takes a JSON object, got {asked!r}")
    given = dict(asked or {})
    for flag, key, value in (("--spec-method", "method", method), ("--spec-tokens", _TOKENS, num_tokens)):
        if value is not None:
            _require(
                given.get(key, value) == value, f"{key!r} is {given.get(key)!r}, but {flag} is {value!r}: drop one"
            )
            given[key] = value
    return given


_TOKENS = "num_speculative_tokens"
_KEYS = tuple(f.name for f in fields(SpeculativeConfig) if f.name != "method")


def _check_keys(method: str, given: Mapping[str, Any]) -> None:
    other = "suffix_decoding_" if method == "ngram" else "prompt_lookup_"
    fitting = tuple(key for key in _KEYS if not key.startswith(other))
    for key in given:
        if key in fitting:
            continue
        if key in _KEYS:
            raise ConfigError(f"{_FLAG}: {key!r} does not go with method {method!r}, which takes {_words(fitting)}")
        if key in _KEYS_OF_DRAFT_MODELS:
            raise ConfigError(f"{_FLAG}: {key!r} is about draft models, and method {method!r} has none: leave it out")
        near = difflib.get_close_matches(key, fitting, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"method {method!r} takes {_words(fitting)}"
        raise ConfigError(f"{_FLAG}: unknown key {key!r}; {hint}")


_RANGES: dict[str, tuple[type[int] | type[float], float, float]] = {
    _TOKENS: (int, 1, 256),
    "prompt_lookup_min": (int, 1, 1024),
    "prompt_lookup_max": (int, 1, 1024),
    "suffix_decoding_max_tree_depth": (int, 2, 1024),
    "suffix_decoding_max_cached_requests": (int, 0, 10_000_000),
    "suffix_decoding_max_spec_factor": (float, 0.5, 1024),
    "suffix_decoding_min_token_prob": (float, 0, 1),
}
"""Type, least and greatest value."""


def _number(key: str, value: Any) -> Any:
    kind, least, greatest = _RANGES[key]
    is_number = isinstance(value, int | float if kind is float else int) and not isinstance(value, bool)
    _require(
        is_number and least <= value <= greatest,
        f"{key!r} takes {'a number' if kind is float else 'an integer'} from {least} to {greatest}, got {value!r}",
    )
    return value


def _ngram(values: dict[str, Any]) -> dict[str, Any]:
    """One of the two lengths sets the other."""
    _require(_TOKENS in values, f"method 'ngram' needs {_TOKENS!r}, such as 5")
    low, high = values.get("prompt_lookup_min"), values.get("prompt_lookup_max")
    values["prompt_lookup_min"], values["prompt_lookup_max"] = low or high or 5, high or low or 5
    low, high = values["prompt_lookup_min"], values["prompt_lookup_max"]
    _require(low <= high, f"'prompt_lookup_min' is {low}, above 'prompt_lookup_max', which is {high}: swap them")
    return values


def _suffix(values: dict[str, Any]) -> dict[str, Any]:
    values.setdefault(_TOKENS, min(values.get("suffix_decoding_max_tree_depth", 24), 256))
    return values


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(f"{_FLAG}: {message}")


def _words(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1]
