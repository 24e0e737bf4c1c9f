"""The commands of `kvik chat`, and what a conversation remembers."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from kvik.cli.answer import Answer, Piece
from kvik.cli.chat import ChatArgs, Conversation
from kvik.cli.terminal import converse
from kvik.errors import KvikError


class FakeClient:
    """Streams `answers`; an exception among them is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def stream(self, path: str, body: Any, answer: Answer) -> Generator[Piece, None, None]:
        for piece in self.answers.pop(0):
            if isinstance(piece, BaseException):
                raise piece
            answer.pieces.append(piece)
            yield Piece(piece)


def talk(monkeypatch: pytest.MonkeyPatch, conversation: Conversation, *lines: str) -> None:
    given = iter(lines)

    def read(prompt: str) -> str:
        line = next(given, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    converse(ChatArgs(), conversation.ask, conversation.command)


def make(*answers: Any, **args: Any) -> Conversation:
    return Conversation(ChatArgs(**args), FakeClient(*answers), "m")  # type: ignore[arg-type]


def test_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conversation = make(["Hej", "!"], ["Yes"])
    path = tmp_path / "talk.json"
    talk(
        monkeypatch,
        conversation,
        "Hi",
        "/system Be kind",
        "two\\",
        "lines",
        f"/save {path}",
        "/clear",
        "/nope",
        "/quit",
        "x",
    )
    assert conversation.messages == [{"role": "system", "content": "Be kind"}]
    assert [m["content"] for m in json.loads(path.read_text())] == ["Be kind", "Hi", "Hej!", "two\nlines", "Yes"]
    assert "unknown command /nope" in capsys.readouterr().out


def test_stopped_and_refused_questions_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conversation = make(["He", KeyboardInterrupt()], [KvikError("too long")], ["Hej"])
    talk(monkeypatch, conversation, "one", "two", "three")
    assert [m["content"] for m in conversation.messages] == ["three", "Hej"]
    assert "[stopped]" in (errors := capsys.readouterr().err)
    assert "error: too long" in errors
