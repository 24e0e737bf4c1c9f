"""A server whose parser can be told what to say: pieces of the answer name the event that they become."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from kvik.server.chat.prepare import PreparedChat, prepare_chat
from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.responses_api import fit
from kvik.server.state import ServerState
from kvik.text.parsing import AnswerEvent, ContentDelta, ReasoningDelta, ToolCallDelta
from support.server_without_engine import Script, Server, make_server


class LabelledParser:
    """Reads lines: `R:reasoning`, `C:content`, `T0:name` begins a call, `A0:piece of arguments` goes on with it."""

    def __init__(self) -> None:
        self._unread = ""

    def push(self, text: str) -> list[AnswerEvent]:
        *lines, self._unread = (self._unread + text).split("|")
        return [self._event(line) for line in lines]

    def finish(self) -> list[AnswerEvent]:
        return [self._event(self._unread)] if self._unread else []

    def _event(self, line: str) -> AnswerEvent:
        label, _, text = line.partition(":")
        match label[0]:
            case "R":
                return ReasoningDelta(text)
            case "C":
                return ContentDelta(text)
            case "T":
                return ToolCallDelta(int(label[1:]), text, "")
        return ToolCallDelta(int(label[1:]), None, text)


@dataclasses.dataclass
class LabelledServer:
    server: Server
    chats: list[ChatCompletionRequest]
    """What the requests were converted to."""

    def post(self, *pieces: str, finish_reason: str = "stop", **fields: Any) -> Any:
        self.server.llm.script = Script(pieces, finish_reason)
        return self.server.http.post("/v1/responses", json={"input": "Hi"} | fields)


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> LabelledServer:
    """Tools and formats reach the chat request, and its answers are parsed by `LabelledParser`."""
    made = LabelledServer(make_server(), [])

    async def prepare(body: ChatCompletionRequest, state: ServerState, request_id: str, priority: int) -> PreparedChat:
        made.chats.append(body)
        plain = body.model_copy(update={"tools": None, "tool_choice": None, "response_format": None})
        chat = await prepare_chat(plain, state, request_id, priority)
        new_parser: Callable[[], LabelledParser] = LabelledParser
        return dataclasses.replace(chat, body=body, new_parser=new_parser)

    monkeypatch.setattr(fit, "prepare_chat", prepare)
    return made
