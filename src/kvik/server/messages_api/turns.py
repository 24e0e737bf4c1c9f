"""Anthropic messages -> turns of one speaker each, made of checked blocks. Knows no chat format.

Neighbouring messages of one role are one turn, as the API has it: templates of many models refuse two user messages in
a row. A block remembers where it stood, for error messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kvik.errors import InvalidRequestError

_ROLES = ("user", "assistant", "system")


@dataclass(frozen=True, slots=True)
class Block:
    """One content block and its path in the body, such as `messages.0.content.1`."""

    where: str
    fields: Mapping[str, Any]

    @property
    def type(self) -> str:
        return str(self.fields["type"])

    def text(self, key: str) -> str:
        """A field that must be a string."""
        value = self.fields.get(key)
        if not isinstance(value, str):
            raise self.error(key, f"must be a string, got {type(value).__name__}")
        return value

    def name(self, key: str) -> str:
        """A field that must be a string and not empty."""
        value = self.text(key)
        if not value:
            raise self.error(key, "must not be empty")
        return value

    def object(self, key: str) -> Mapping[str, Any]:
        """A field that must be an object."""
        value = self.fields.get(key)
        if not isinstance(value, Mapping):
            raise self.error(key, f"must be an object, got {type(value).__name__}")
        return value

    def error(self, key: str, problem: str) -> InvalidRequestError:
        where = f"{self.where}.{key}"
        return InvalidRequestError(f"{where} {problem}", param=where)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says before another one does."""

    role: str
    """user, assistant or system"""
    blocks: list[Block]


def turns_of(messages: list[dict[str, Any]]) -> list[Turn]:
    """Raises `InvalidRequestError` naming the message or block that is wrong."""
    turns: list[Turn] = []
    for i, message in enumerate(messages):
        where = f"messages.{i}"
        role = message.get("role")
        if role not in _ROLES:
            raise InvalidRequestError(
                f"{where}.role must be one of {', '.join(_ROLES)}, got {str(role)[:100]!r}", param=f"{where}.role"
            )
        blocks = list(blocks_of(message.get("content"), f"{where}.content"))
        if turns and turns[-1].role == role:
            turns[-1].blocks.extend(blocks)
        else:
            turns.append(Turn(role, blocks))
    return turns


def blocks_of(content: Any, where: str) -> Iterator[Block]:
    """A string is one block of text. Raises `InvalidRequestError` for anything but strings and lists of blocks."""
    if isinstance(content, str):
        yield Block(where, {"type": "text", "text": content})
        return
    if not isinstance(content, list):
        raise InvalidRequestError(
            f"{where} must be a string or a list of blocks, got {type(content).__name__}", param=where
        )
    for i, block in enumerate(content):
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            raise InvalidRequestError(f"{where}.{i} must be an object with a type", param=f"{where}.{i}")
        yield Block(f"{where}.{i}", block)
