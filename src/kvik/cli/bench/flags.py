"""How the measurements read their flags: their own, and those of the engine where they run one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from kvik.cli.help import help_text
from kvik.config.args import EngineArgs
from kvik.config.catalog import GROUPS, MODEL_TAG
from kvik.config.flags import Flag, flags_of
from kvik.config.not_yet import NOT_YET, refuse_unsupported
from kvik.config.parser import Parser
from kvik.errors import ConfigError

A = TypeVar("A")
HELP = Flag("help", "str", None, "this text; --help=WORD for flags with that in their name", "", aliases=("-h",))
BENCH = "Benchmark"


@dataclass(frozen=True)
class Asked(Generic[A]):
    """A command line that was read."""

    own: A
    engine: Mapping[str, Any]
    """Engine flags that were given, by their `Flag.dest`."""


def read_flags(cls: type[A], words: Sequence[str], usage: str) -> A | None:
    """The flags of `cls` alone; None where help was asked for, and printed. Raises `ConfigError`."""
    asked = _read(cls, words, usage, ())
    return None if asked is None else asked.own


def read_flags_with_engine(cls: type[A], words: Sequence[str], usage: str) -> Asked[A] | None:
    """The same beside all flags of the engine; MODEL may be given without a flag."""
    own = {f.name for f in flags_of(cls)}
    engine = [f for f in (MODEL_TAG, *flags_of(EngineArgs), *NOT_YET) if f.name not in own]
    return _read(cls, words, usage, engine)


def _read(cls: type[A], words: Sequence[str], usage: str, engine: Sequence[Flag]) -> Asked[A] | None:
    flags = [HELP, *flags_of(cls, BENCH), *engine]
    groups = {BENCH: "what is measured", **GROUPS} if engine else {}
    try:
        parsed = Parser(flags).parse(words)
        if len(parsed.positionals) > bool(engine):
            raise ConfigError(f"what is {parsed.positionals[-1]!r}? --help lists the flags")
    except ConfigError:
        print(f"usage: {usage}", file=sys.stderr)
        raise
    if parsed.help is not None:
        print(_help(usage, flags, groups, parsed.help))
        return None
    if parsed.positionals:
        parsed.values["model_tag"] = parsed.positionals[0]
    for warning in parsed.warnings:
        print(f"kvik: warning: {warning}", file=sys.stderr)
    refuse_unsupported(parsed.values, engine)
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    own = cls(**{name: value for name, value in parsed.values.items() if name in names})
    return Asked(own, _engine_values(parsed.values, engine))


def _help(usage: str, flags: Sequence[Flag], groups: Mapping[str, str], topic: str) -> str:
    """Without a topic the measurement's own flags, then where the engine's are."""
    if topic or not groups:
        return help_text(usage, flags, groups, topic)
    own = [f for f in flags if f.group in ("", BENCH)]
    return help_text(usage, own, {}, "") + "\n\nand all engine flags of kvik serve; --help=all lists them"


def _engine_values(values: Mapping[str, Any], engine: Iterable[Flag]) -> dict[str, Any]:
    known = {f.dest for f in engine}
    chosen = {dest: value for dest, value in values.items() if dest in known}
    if (model := chosen.pop("model_tag", None)) is not None:
        chosen["model"] = model
    return chosen


def check_json_path(path: str | None, flag: str) -> None:
    """Before anything is measured. Raises `ConfigError` where the folder is missing."""
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise ConfigError(f"{flag} {path}: there is no folder {Path(path).absolute().parent}")


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    Path(path).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
