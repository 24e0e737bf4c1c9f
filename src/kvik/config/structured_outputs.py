"""`--structured-outputs-config`: options of constrained answers, and how much one may cost. Knows no grammar.

Keys and defaults are the interface's. There is one backend here, llguidance.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvik.errors import ConfigError

_FLAG = "--structured-outputs-config"
_BACKENDS = ("auto", "guidance", "llguidance")
_OTHER_BACKENDS = ("xgrammar", "outlines", "lm-format-enforcer")
_SWITCHES = ("disable_any_whitespace", "disable_additional_properties", "enable_in_reasoning", "disable_fallback")
_REASONING = ("reasoning_parser", "reasoning_parser_plugin")


@dataclass(frozen=True)
class GrammarLimits:
    """What a constraint may have. Checked before it is compiled."""

    max_schema_bytes: int = 262_144
    """UTF-8 bytes of a JSON schema or structural tag."""
    max_schema_depth: int = 64
    """Levels of nesting."""
    max_schema_nodes: int = 20_000
    """Objects, arrays and values of a JSON schema."""
    max_regex_chars: int = 8192
    max_grammar_chars: int = 131_072
    """Lark or GBNF."""
    max_choices: int = 4096
    max_compile_s: float = 5.0
    """Seconds that a client waits for its constraint to be checked."""


@dataclass(frozen=True)
class StructuredOutputsConfig:
    """Complete and checked."""

    backend: str = "auto"
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    enable_in_reasoning: bool = False
    """Reasoning is constrained too."""
    limits: GrammarLimits = GrammarLimits()


def structured_outputs_config_of(asked: Any, limits: GrammarLimits) -> StructuredOutputsConfig:
    """From the flag's object and the caps' own flags. Raises `ConfigError`."""
    if not isinstance(asked, Mapping | None):
        raise ConfigError(f"{_FLAG} takes a JSON object, got {asked!r}")
    given = dict(asked or {})
    backend = given.pop("backend", "auto")
    if backend in _OTHER_BACKENDS:
        raise ConfigError(
            f"{_FLAG}: kvik has no backend {backend!r}; its own, guidance, takes the same requests: leave 'backend' out"
        )
    if backend not in _BACKENDS:
        raise ConfigError(f"{_FLAG}: 'backend' takes auto or guidance, got {backend!r}")
    for key in _REASONING:
        if given.pop(key, ""):
            raise ConfigError(f"{_FLAG}: give {key!r} as a flag of its own, --{key.replace('_', '-')}")
    for key, value in given.items():
        _check_switch(key, value)
    given.pop("disable_fallback", None)  # there is nothing to fall back to
    _check_limits(limits)
    return StructuredOutputsConfig(backend=backend, limits=limits, **given)


def _check_switch(key: str, value: Any) -> None:
    if key not in _SWITCHES:
        near = difflib.get_close_matches(key, _SWITCHES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it takes backend, {', '.join(_SWITCHES)}"
        raise ConfigError(f"{_FLAG}: unknown key {key!r}; {hint}")
    if not isinstance(value, bool):
        raise ConfigError(f"{_FLAG}: {key!r} takes true or false, got {value!r}")


def _check_limits(limits: GrammarLimits) -> None:
    for name, value in vars(limits).items():
        if not value > 0:
            raise ConfigError(f"--{name.replace('_', '-')} takes more than 0, got {value}")
