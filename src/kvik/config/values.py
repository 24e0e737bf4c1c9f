"""One flag's value: from the words of a command line or from a YAML file. Knows no flag by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from kvik.config.flags import Flag
from kvik.errors import ConfigError

AUTO = -1
"""How "auto" is held by flags of the kinds "size_or_auto" and "float_or_auto"."""

_INTEGER = re.compile(r"[+-]?\d+")
_SIZE = re.compile(r"([+-]?\d+)(?:\.(\d+))?([kmgtKMGT]?)")
_MEMORY = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?\s*(?:([kmgt])(i?b)?)?", re.IGNORECASE)
_POWERS = "kmgt"


def parse_size(text: str) -> int:
    """Read an integer with an optional suffix: k m g t are powers of 1000, K M G T powers of 1024.

    Decimals go with the lower-case suffixes only ("25.6k" is 25600). Raises `ValueError`.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("an integer, with k m g t (powers of 1000) or K M G T (powers of 1024) if you like")
    whole, fraction, suffix = match[1], match[2] or "", match[3]
    if fraction and not suffix.islower():
        raise ValueError("decimals with k, m, g or t only, such as 25.6k")
    base = 1024 if suffix.isupper() else 1000
    unit: int = base ** (_POWERS.index(suffix.lower()) + 1) if suffix else 1
    scale: int = 10 ** len(fraction)
    scaled, rest = divmod(int(whole + fraction) * unit, scale)
    if rest:
        raise ValueError("a whole number")
    return scaled


def parse_memory(text: str) -> int:
    """Bytes: KiB MiB GiB TiB and K M G T are powers of 1024; KB MB GB TB and k m g t are powers of 1000.

    Decimals are welcome, whole bytes come out. Without a unit it is bytes, at least 1 MiB of them. Raises `ValueError`.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError("an amount of memory, such as 24GiB or 512M")
    whole, fraction, power, ending = match[1], match[2] or "", match[3], match[4]
    if power is None:
        if fraction or int(whole) < 1 << 20:
            raise ValueError(f"an amount of memory with its unit, such as {text.strip()}GiB")
        return int(whole)
    binary = ending.lower() == "ib" if ending else power.isupper()
    unit: int = (1024 if binary else 1000) ** (_POWERS.index(power.lower()) + 1)
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * unit // scale


def _parse_size_or_auto(text: str) -> int:
    return AUTO if text.strip().lower() == "auto" else parse_size(text)


def _parse_int(text: str) -> int:
    if _INTEGER.fullmatch(text.strip()) is None:
        raise ValueError("an integer")
    return int(text)


def _parse_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


def _parse_float_or_auto(text: str) -> float:
    try:
        return AUTO if text.strip().lower() == "auto" else _parse_float(text)
    except ValueError:
        raise ValueError("a number or auto") from None


def _parse_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise ValueError(f"JSON ({e})") from None


def _parse_json_or_str(text: str) -> Any:
    return _parse_json(text) if text.lstrip().startswith(("{", "[")) else text


def _parse_json_list(text: str) -> tuple[str, ...]:
    words = _parse_json(text)
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        raise ValueError('a JSON list of strings, such as ["a", "b"]')
    return tuple(words)


_PARSERS: dict[str, Callable[[str], Any]] = {
    "bool": _parse_bool,
    "switch": _parse_bool,
    "int": _parse_int,
    "size": parse_size,
    "size_or_auto": _parse_size_or_auto,
    "memory": parse_memory,
    "float": _parse_float,
    "float_or_auto": _parse_float_or_auto,
    "str": str,
    "list": str,
    "int_list": _parse_int,
    "json": _parse_json,
    "json_or_str": _parse_json_or_str,
    "json_list": _parse_json_list,
}


def parse_word(flag: Flag, text: str) -> Any:
    """One word of the command line as a value of `flag` (for lists: as one item). Raises `ConfigError`."""
    try:
        value = _PARSERS[flag.kind](text)
    except ValueError as e:
        raise ConfigError(f"--{flag.name} takes {e}, got {text!r}") from None
    return _checked_choice(flag, value)


def from_yaml(flag: Flag, value: Any) -> Any:
    """A value of a YAML file as a value of `flag`. Raises `ConfigError`."""
    if isinstance(value, list) and flag.kind in ("list", "int_list"):
        return tuple(parse_word(flag, str(v)) for v in value)
    if isinstance(value, dict | list) and flag.kind.startswith("json"):
        return parse_word(flag, json.dumps(value))
    if isinstance(value, dict | list):
        raise ConfigError(f"--{flag.name} takes one value, got {value!r}")
    word = str(value).lower() if isinstance(value, bool) else str(value)
    parsed = parse_word(flag, word)
    return (parsed,) if flag.kind in ("list", "int_list") else parsed


def _checked_choice(flag: Flag, value: Any) -> Any:
    if flag.choices and value not in flag.choices:
        raise ConfigError(f"--{flag.name} takes one of {', '.join(flag.choices)}, got {value!r}")
    return value
