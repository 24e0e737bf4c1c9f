"""A parser's events -> content blocks, one after the other. Knows no HTTP; whole answers and streams are made of it.

A block is opened, grows, and is closed before the next one opens: thinking, text and calls follow each other in the
order in which the model said them.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import from_json

from kvik.text.parsing import AnswerEvent, ContentDelta, ReasoningDelta, ToolCallDelta

BlockKind = Literal["text", "thinking", "tool_use"]


@dataclass(frozen=True, slots=True)
class BlockOpened:
    index: int
    block: dict[str, Any]
    """The block while it is empty."""


@dataclass(frozen=True, slots=True)
class BlockGrew:
    index: int
    kind: BlockKind
    text: str
    """The next piece of the text, the thought, or the JSON of the arguments."""


@dataclass(frozen=True, slots=True)
class BlockClosed:
    index: int
    block: dict[str, Any]
    """The whole block."""


BlockStep = BlockOpened | BlockGrew | BlockClosed


class BlockSequence:
    """The blocks of one answer."""

    def __init__(self, shows_thinking: bool = True) -> None:
        """Without `shows_thinking`, thoughts are blocks without text (thinking.display: omitted)."""
        self._shows_thinking = shows_thinking
        self._num_opened = 0
        self._open: dict[str, Any] | None = None
        self._pieces: list[str] = []
        self.num_tool_calls = 0

    def add(self, events: Iterable[AnswerEvent]) -> list[BlockStep]:
        """What the next events of the answer do to its blocks."""
        steps: list[BlockStep] = []
        for event in events:
            match event:
                case ReasoningDelta(text):
                    steps += self._ensure("thinking")
                    steps += self._grow("thinking", text if self._shows_thinking else "")
                case ContentDelta(text):
                    steps += self._ensure("text")
                    steps += self._grow("text", text)
                case ToolCallDelta(_, name, arguments):
                    if name is not None:
                        steps += self._open_call(name)
                    steps += self._grow("tool_use", arguments)
        return steps

    def end(self) -> list[BlockStep]:
        """The answer has ended. An answer has at least one block, of empty text where it said nothing."""
        steps = [] if self._num_opened else self._ensure("text")
        return steps + self._close()

    def _ensure(self, kind: BlockKind) -> list[BlockStep]:
        if self._open is not None and self._open["type"] == kind:
            return []
        return self._begin(_EMPTY[kind])

    def _open_call(self, name: str) -> list[BlockStep]:
        self.num_tool_calls += 1
        return self._begin({"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:24]}", "name": name, "input": {}})

    def _begin(self, block: dict[str, Any]) -> list[BlockStep]:
        steps = self._close()
        self._open, self._pieces = block, []
        self._num_opened += 1
        return [*steps, BlockOpened(self._num_opened - 1, block)]

    def _grow(self, kind: BlockKind, text: str) -> list[BlockStep]:
        if not text:
            return []
        self._pieces.append(text)
        return [BlockGrew(self._num_opened - 1, kind, text)]

    def _close(self) -> list[BlockStep]:
        if self._open is None:
            return []
        whole = _whole_block(self._open, "".join(self._pieces))
        self._open = None
        return [BlockClosed(self._num_opened - 1, whole)]


_EMPTY: dict[BlockKind, dict[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


def _whole_block(empty: dict[str, Any], text: str) -> dict[str, Any]:
    match empty["type"]:
        case "text":
            return empty | {"text": text}
        case "thinking":
            return empty | {"thinking": text, "signature": signature_of(text)}
    return empty | {"input": arguments_of(text)}


def signature_of(thought: str) -> str:
    """SDKs want one and send it back; nobody here needs to check it, so it only tells thoughts apart."""
    return hashlib.sha256(thought.encode("utf-8", "surrogatepass")).hexdigest()


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments of a call as an object; of JSON that was cut short, what is certain of it."""
    try:
        arguments = from_json(text, allow_partial=True) if text.strip() else {}
    except ValueError:
        return {}
    return arguments if isinstance(arguments, dict) else {}
