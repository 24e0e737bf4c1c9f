"""Messages to bytes and back: msgpack arrays, checked field by field against the types in `kvik/messages.py`.

Knows no socket. Nothing that arrives can make more than plain values of those types.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kvik.errors import KvikError, WireError
from kvik.messages import FromEngine, NewRequest, ToEngine

Message = TypeVar("Message")

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encoder = msgspec.msgpack.Encoder()
_to_engine_decoder: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
_from_engine_decoder: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)


def encode(message: ToEngine | FromEngine) -> bytes:
    """One frame. Raises `WireError` when a free field (a utility call's values) holds what msgpack has no form for."""
    try:
        return _encoder.encode(message)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"a {type(message).__name__} cannot be sent: {error}") from error


def decode_to_engine(frame: bytes | memoryview) -> ToEngine:
    """What the API process sent. Raises `WireError`, with the request's id where it is a broken `NewRequest`."""
    return _decode(_to_engine_decoder, frame)


def decode_from_engine(frame: bytes | memoryview) -> FromEngine:
    """What the engine process sent. Raises `WireError`."""
    return _decode(_from_engine_decoder, frame)


def _decode(decoder: msgspec.msgpack.Decoder[Message], frame: bytes | memoryview) -> Message:
    try:
        return decoder.decode(frame)
    except (*_UNREADABLE, KvikError) as error:  # KvikError: a checked type refused its values
        name, request_id = _identify(frame)
        raise WireError(f"cannot read {name} of {len(frame)} bytes: {error}", request_id=request_id) from error


def _identify(frame: bytes | memoryview) -> tuple[str, str | None]:
    """What a broken frame says it is, and whose request it was."""
    try:
        fields: Any = msgspec.msgpack.decode(frame)
    except _UNREADABLE:
        return "a frame that is not msgpack", None
    if not isinstance(fields, list) or not fields or not isinstance(fields[0], str):
        return "a frame without a message name", None
    is_request = fields[0] == NewRequest.__name__ and len(fields) > 1 and isinstance(fields[1], str)
    return f"a message {fields[0][:40]!r}", fields[1] if is_request else None
