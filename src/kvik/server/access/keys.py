"""Keys as hashes, with names and scopes: who sent a token, found in constant time. Knows no HTTP and no file."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvik.server.access.scopes import SCOPES, Scope


@dataclass(frozen=True, slots=True)
class Key:
    """One key. The key itself is not kept."""

    name: str
    """Shown in logs and used for fair share."""
    sha256: bytes
    scopes: frozenset[Scope]


def hash_key(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def plain_keys(keys: Sequence[str]) -> tuple[Key, ...]:
    """The --api-key ones, by their place; they may do everything."""
    return tuple(Key(f"api-key-{i}", hash_key(key.encode()), frozenset(SCOPES)) for i, key in enumerate(keys, 1))


def identify(tokens: Iterable[bytes], keys: Sequence[Key]) -> Key | None:
    """The key that one of `tokens` is. Every token is compared with every hash, whatever was found before."""
    found: Key | None = None
    for digest in map(hash_key, tokens):
        for key in keys:
            if secrets.compare_digest(digest, key.sha256):
                found = key
    return found
