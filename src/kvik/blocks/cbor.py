"""Canonical CBOR (RFC 8949, section 4.2) of what block hashes cover: unsigned integers, bytes, text, lists, null."""

from __future__ import annotations

from collections.abc import Sequence

CborValue = int | bytes | str | None | Sequence["CborValue"]

_UNSIGNED, _BYTES, _TEXT, _ARRAY = 0, 2, 3, 4
_NULL = b"\xf6"


def encode_canonical(value: CborValue) -> bytes:
    """The one shortest encoding of `value`. Raises `TypeError` for other types, `ValueError` for a negative integer."""
    if value is None:
        return _NULL
    if isinstance(value, int):
        return _head(_UNSIGNED, value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        encoded = value.encode()
        return _head(_TEXT, len(encoded)) + encoded
    if isinstance(value, list):
        return _head(_ARRAY, len(value)) + b"".join(map(encode_canonical, value))
    raise TypeError(f"only int, bytes, str, list and None have an encoding here, got {type(value).__name__}")


def _head(major: int, argument: int) -> bytes:
    """Three bits of kind, then the argument in as few bytes as hold it."""
    if argument < 0:
        raise ValueError(f"an unsigned integer is needed, got {argument}")
    if argument < 24:
        return bytes([major << 5 | argument])
    for info, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * width:
            return bytes([major << 5 | info]) + argument.to_bytes(width, "big")
    raise ValueError(f"an integer of at most 64 bits is needed, got {argument}")
