"""Digests that name a block by all tokens up to its end. Knows token ids, never what they mean.

The digest of a block covers its parent's digest, so equal digests mean equal prefixes (up to a collision of SHA-256).
What separates requests with equal tokens goes into the first block, and the chain carries it on: `cache_salt` as an
extra key, an adapter by another root. Nothing here depends on Python's own hash or on pickle: the same tokens give the
same digests in every process.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence

from kvik.blocks.cbor import encode_canonical
from kvik.errors import ConfigError

BlockHasher = Callable[[bytes, Sequence[int], str | None], bytes]
"""(digest of the parent block, token ids of a full block, salt or None) -> digest."""

ROOT_DIGEST = hashlib.sha256(b"kvik prefix cache, version 1").digest()
"""The parent of first blocks."""


def root_digest(keys: Sequence[str]) -> bytes:
    """The parent of first blocks of sequences whose keys and values depend on more than tokens: on an adapter."""
    return hashlib.sha256(encode_canonical([ROOT_DIGEST, list(keys)])).digest() if keys else ROOT_DIGEST


def make_block_hasher(algorithm: str, block_size: int) -> BlockHasher:
    """The hasher of `--prefix-caching-hash-algo`, for blocks of `block_size` tokens.

    Raises `ConfigError` for a name that has no implementation here.
    """
    if algorithm == "sha256":
        return _packed_sha256(block_size)
    if algorithm == "sha256_cbor":
        return _cbor_sha256
    raise ConfigError(
        f"--prefix-caching-hash-algo {algorithm!r} is not available; choose 'sha256' (packed integers, fast) "
        "or 'sha256_cbor' (canonical CBOR, for comparison with other programs)"
    )


def _packed_sha256(block_size: int) -> BlockHasher:
    """Parent digest, then each id as 4 bytes little-endian, then the salt. Fixed widths make it unambiguous."""
    pack = struct.Struct(f"<{block_size}I").pack
    sha256 = hashlib.sha256

    def hash_block(parent: bytes, token_ids: Sequence[int], salt: str | None) -> bytes:
        payload = parent + pack(*token_ids)
        if salt is not None:
            payload += b"\x01" + salt.encode()
        return sha256(payload).digest()

    return hash_block


def _cbor_sha256(parent: bytes, token_ids: Sequence[int], salt: str | None) -> bytes:
    """SHA-256 of the canonical CBOR of [parent, [id, ...], null or [salt]]."""
    extra_keys = None if salt is None else [salt]
    return hashlib.sha256(encode_canonical([parent, list(token_ids), extra_keys])).digest()
