"""The text of --api-key-file -> keys. Knows no file system.

A list in YAML, of which JSON is a part:

    - {name: team-a, sha256: "<64 hex digits>", scopes: [infer]}
    - {name: prometheus, sha256: "<64 hex digits>", scopes: [metrics]}
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from kvik.errors import ConfigError
from kvik.server.access.keys import Key
from kvik.server.access.scopes import SCOPES

MAX_KEYS = 1024
"""Each is compared with each request's."""
_NAME = re.compile(r"[\w.@:-]{1,64}", re.ASCII)
_TAKEN = re.compile(r"api-key-\d+|anonymous|admin-uds")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_FIELDS = ("name", "sha256", "scopes")


def parse_keys(text: str) -> tuple[Key, ...]:
    """Raises `ConfigError` that says which entry is wrong, and never shows a hash. `[]` is a list of no keys."""
    entries = _decode(text)
    if not isinstance(entries, list):
        raise ConfigError("it must hold a list of keys, each with name, sha256 and scopes; [] is a list without any")
    if len(entries) > MAX_KEYS:
        raise ConfigError(f"it may hold at most {MAX_KEYS} keys, got {len(entries)}")
    keys = tuple(_key_of(entry, f"key {i}") for i, entry in enumerate(entries, 1))
    _check_distinct(keys)
    return keys


def _decode(text: str) -> Any:
    """JSON is tried first: it is read a hundred times as fast, between two requests."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"it is neither YAML nor JSON{where}") from None


def _key_of(entry: Any, where: str) -> Key:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} must have name, sha256 and scopes, got a {type(entry).__name__}")
    unknown = [str(name)[:50] for name in entry if name not in _FIELDS]
    if unknown:
        raise ConfigError(f"{where} has the unknown field {unknown[0]}; there are {', '.join(_FIELDS)}")
    name, sha256, scopes = (entry.get(field) for field in _FIELDS)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: name takes 1 to 64 letters, digits and any of . @ : _ -")
    if _TAKEN.fullmatch(name):
        raise ConfigError(f"{where}: the name {name} means something else here; choose another")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ConfigError(f"{where} ({name}): sha256 takes 64 hex digits in quotes, as of: printf %s KEY | sha256sum")
    if not isinstance(scopes, list) or not scopes or not all(scope in SCOPES for scope in scopes):
        raise ConfigError(f"{where} ({name}): scopes takes a list of one or more of {', '.join(SCOPES)}")
    return Key(name, bytes.fromhex(sha256), frozenset(scopes))


def _check_distinct(keys: tuple[Key, ...]) -> None:
    names: set[str] = set()
    hashes: dict[bytes, str] = {}
    for key in keys:
        if key.name in names:
            raise ConfigError(f"two keys have the name {key.name}; give each its own")
        if key.sha256 in hashes:
            raise ConfigError(f"{hashes[key.sha256]} and {key.name} are the same key; give each its own")
        names.add(key.name)
        hashes[key.sha256] = key.name
