"""Engine arguments as Python keywords: the offline door's spelling of the flags."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from kvik.config.flags import LIST_KINDS, Flag, flags_of
from kvik.config.not_yet import NOT_YET, refuse_unsupported
from kvik.config.values import parse_word
from kvik.errors import ConfigError


def read_keywords(cls: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `cls` from keywords, which may hold words where flags take them ("8k", "auto").

    Raises `ConfigError`, or `NotSupportedYetError` for what only a known, unbuilt flag would take.
    """
    names = {f.name for f in fields(cls)}
    refuse_unsupported(given, NOT_YET)
    known = names | {f.dest for f in NOT_YET}
    for name in given.keys() - known:
        near = difflib.get_close_matches(name, names, n=1)
        raise ConfigError(f"unknown argument {name}" + (f"; did you mean {near[0]}?" if near else ""))
    flags = {f.dest: f for f in flags_of(cls)}
    return {name: _read(flags.get(name), value) for name, value in given.items() if name in names}


def _read(flag: Flag | None, value: Any) -> Any:
    if flag is None or value is None:
        return value
    if flag.kind in LIST_KINDS:
        return (value,) if isinstance(value, str) else tuple(value)
    return parse_word(flag, value) if isinstance(value, str) else value
