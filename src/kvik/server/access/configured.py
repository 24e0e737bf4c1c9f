"""The keys that a server was started with, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kvik.config.frontend import ServerConfig
from kvik.server.access.keys import Key, plain_keys


def keys_of(config: ServerConfig) -> Callable[[], Sequence[Key]]:
    """What asks for the keys of this moment. Raises `ConfigError` for a file that cannot be used."""
    plain = plain_keys(config.api_key)
    if config.access.api_key_file is None:
        return lambda: plain
    from kvik.server.access.key_file import KeyFile

    file = KeyFile(config.access.api_key_file)
    return lambda: (*plain, *file.current())


def tokens_of(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """What a request brings as keys; names are in lower case.

    At most one per way to send a key: repeated headers do not multiply the guesses.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            found.setdefault(name, token.strip() if scheme.lower() == b"bearer" else b"")
        elif name == b"x-api-key":
            found.setdefault(name, value.strip())
    return list(found.values())
