"""The words of a command line against a list of flags. Knows the rules of spelling, and no flag by name.

Not argparse: dotted JSON keys, underscores, repeated flags, size suffixes, help by group and a suggestion for a
misspelt flag would each need a piece of it replaced, and importing it costs a third of `kvik --help`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvik.config.flags import BOOL_KINDS, JSON_KINDS, LIST_KINDS, Flag
from kvik.config.values import parse_word
from kvik.errors import ConfigError

_NUMBER = re.compile(r"-\.?\d.*")
_LEVEL = re.compile(r"-O(\d+)")


@dataclass
class Parsed:
    """What a command line says."""

    values: dict[str, Any] = field(default_factory=dict)
    """`Flag.dest` -> value, of the flags that were given."""
    partial: set[str] = field(default_factory=set)
    """Those of them given by dotted keys alone, so that a config file's mapping shows through."""
    positionals: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    help: str | None = None
    """"" for --help, "X" for --help=X, None where help is not asked for."""


class Parser:
    """Reads words against `flags`; one parser may read many command lines."""

    def __init__(self, flags: Iterable[Flag]) -> None:
        self._by_name: dict[str, Flag] = {}
        for flag in flags:
            self._by_name["--" + flag.name] = flag
            for alias in flag.aliases:
                self._by_name[alias] = flag

    def parse(self, words: Sequence[str]) -> Parsed:
        """Raises `ConfigError` for an unknown flag, a missing value or a bad one."""
        parsed = Parsed()
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                parsed.positionals += rest
                break
            if not _is_flag(word):
                parsed.positionals.append(word)
            elif word in ("-h", "--help") or word.startswith("--help="):
                parsed.help = word.partition("=")[2]
            else:
                self._read_flag(word, rest, parsed)
        return parsed

    def _read_flag(self, word: str, rest: list[str], parsed: Parsed) -> None:
        """Read one flag and its values, taken from the front of `rest`."""
        word = _LEVEL.sub(r"-O=\1", word)
        spelled, equals, text = word.partition("=")
        head, dot, path = spelled.partition(".")
        name = _dashed(head)
        flag = self._by_name.get(name)
        if flag is None:
            self._read_negation(name, equals, parsed)
        elif dot:
            self._read_dotted(flag, path, text if equals else _next_value(spelled, rest), parsed)
        elif flag.kind in BOOL_KINDS:
            self._set(flag, parse_word(flag, text) if equals else True, parsed)
        elif flag.kind in LIST_KINDS:
            self._set(flag, _read_list(flag, [text] if equals else [_next_value(spelled, rest)], rest), parsed)
        else:
            self._set(flag, parse_word(flag, text if equals else _next_value(spelled, rest)), parsed)

    def _read_negation(self, name: str, equals: str, parsed: Parsed) -> None:
        flag = self._by_name.get("--" + name.removeprefix("--no-")) if name.startswith("--no-") else None
        if flag is None or flag.kind != "bool":
            raise ConfigError(self._unknown(name))
        if equals:
            raise ConfigError(f"{name} takes no value")
        self._set(flag, False, parsed)

    def _set(self, flag: Flag, value: Any, parsed: Parsed) -> None:
        whole_before = flag.dest in parsed.values and flag.dest not in parsed.partial
        if whole_before:
            parsed.warnings.append(f"--{flag.name} is given more than once; the last one counts")
        elif flag.dest in parsed.partial and isinstance(value, dict):
            value = merged(value, parsed.values[flag.dest])
        parsed.partial.discard(flag.dest)
        parsed.values[flag.dest] = value

    def _read_dotted(self, flag: Flag, path: str, text: str, parsed: Parsed) -> None:
        if flag.kind not in JSON_KINDS or flag.kind == "json_list":
            raise ConfigError(f"--{flag.name} has no keys: --{flag.name}.{path} cannot be")
        if flag.dest not in parsed.values:
            parsed.values[flag.dest] = {}
            parsed.partial.add(flag.dest)
        target = parsed.values[flag.dest]
        if not isinstance(target, dict):
            raise ConfigError(f"--{flag.name}.{path} needs --{flag.name} to be a JSON object, got {target!r}")
        _put(target, path, _json_or_text(text), f"--{flag.name}")

    def _unknown(self, name: str) -> str:
        import difflib  # here, as only a mistake needs it and it takes as long as all the rest

        candidates = [n for n in self._by_name if n.startswith("--")] + [
            "--no-" + f.name for f in self._by_name.values() if f.kind == "bool"
        ]
        begun = sorted((n for n in candidates if n.startswith(name)), key=len)
        near = begun or difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
        return f"unknown flag {name}" + (f"; did you mean {near[0]}?" if near else "; --help lists them all")


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over` laid on top, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _is_flag(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and _NUMBER.fullmatch(word) is None


def _dashed(head: str) -> str:
    return head if not head.startswith("--") else "--" + head[2:].replace("_", "-")


def _next_value(spelled: str, rest: list[str]) -> str:
    if not rest or _is_flag(rest[0]):
        raise ConfigError(f"{spelled} needs a value" + (f"; for one that starts with a dash write {spelled}=VALUE"))
    return rest.pop(0)


def _read_list(flag: Flag, words: list[str], rest: list[str]) -> tuple[Any, ...]:
    """All words up to the next flag."""
    while rest and not _is_flag(rest[0]):
        words.append(rest.pop(0))
    return tuple(parse_word(flag, word) for word in words)


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(target: dict[str, Any], path: str, value: Any, name: str) -> None:
    """Set `a.b.c` in nested mappings; a trailing + appends to a list."""
    *parents, last = path.split(".")
    key = last.removesuffix("+")
    if not key or not all(parents):
        raise ConfigError(f"{name}.{path}: a key is empty; write {name}.KEY VALUE")
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise ConfigError(f"{name}.{path}: {parent} already has a value, {target!r}")
    if not last.endswith("+"):
        target[key] = value
    elif isinstance(items := target.setdefault(key, []), list):
        items.append(value)
    else:
        raise ConfigError(f"{name}.{path}: {key} already has a value that is no list, {items!r}")
