"""A format of answers that a test writes by hand, and a way to make a server believe in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from kvik.server.chat.prepare import PreparedChat
from kvik.text.parsing import AnswerEvent, AnswerParser, ContentDelta, ReasoningDelta, ToolCallDelta


class MarkedParser:
    """A piece in (round) brackets is thought, {curly} ones are the arguments of a call."""

    def push(self, text: str) -> list[AnswerEvent]:
        if text.startswith("("):
            return [ReasoningDelta(text[1:-1])]
        if text.startswith("{"):
            return [ToolCallDelta(0, "add", ""), ToolCallDelta(0, None, text)]
        return [ContentDelta(text)] if text else []

    def finish(self) -> list[AnswerEvent]:
        return []


def with_parser(
    prepare: Callable[..., Awaitable[PreparedChat]], new_parser: Callable[[], AnswerParser]
) -> Callable[..., Awaitable[PreparedChat]]:
    """`prepare_chat`, but for the parser."""

    async def prepared(*args: Any) -> PreparedChat:
        return dataclasses.replace(await prepare(*args), new_parser=new_parser)

    return prepared
