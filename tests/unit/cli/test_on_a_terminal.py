"""`kvik chat` and `kvik complete` as a person uses them: a real process on a real terminal, before a fake server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes.chat_server import ChatServer, chat_server, events
from support.terminal import Terminal

THOUGHT_STREAM = (
    events({"role": "assistant", "content": ""}, {"reasoning": "Let me", "reasoning_content": "Let me"})
    + events({"reasoning_content": " think"}, {"content": "Forty"}, {"content": "-two"})
    + b"data: [DONE]\n\n"
)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as server:
        yield server


def test_a_conversation(server: ChatServer) -> None:
    with Terminal.with_kvik("chat", "--url", server.url) as terminal:
        terminal.until("> ")
        terminal.press_enter("Hi")
        terminal.until("Hej!\n> ")
        terminal.press_enter("/system Be kind")
        terminal.until("system message set")
        terminal.until("> ")
        terminal.press_enter("two\\")
        terminal.until("... ")
        terminal.press_enter("lines")
        terminal.until("Hej!\n> ")
        terminal.press_enter("/clear")
        terminal.until("conversation forgotten\n> ")
        terminal.press_enter("/sing")
        terminal.until("unknown command /sing")
        terminal.until("/quit")
        terminal.until("> ")
        terminal.press_enter("again")
        terminal.until("Hej!\n> ")
        terminal.press_ctrl("D")
        assert terminal.exit_code() == 0
    system = ("system", "Be kind")
    assert [[(m["role"], m["content"]) for m in body["messages"]] for body in server.bodies] == [
        [("user", "Hi")],
        [system, ("user", "Hi"), ("assistant", "Hej!"), ("user", "two\nlines")],
        [system, ("user", "again")],
    ]


def test_ctrl_c_stops_an_answer_and_not_the_program(server: ChatServer) -> None:
    server.unending = events({"content": "On and on"})
    with Terminal.with_kvik("chat", "--url", server.url) as terminal:
        terminal.until("> ")
        terminal.press_enter("Talk forever")
        terminal.until("On and on")
        terminal.interrupt_until("[stopped]")
        terminal.until("> ")
        terminal.type("half a line")
        terminal.until("half a line")
        terminal.interrupt_until("> ")
        terminal.press_enter("Hi")
        terminal.until("Hej!\n> ")
        terminal.press_ctrl("D")
        assert terminal.exit_code() == 0
    assert [m["content"] for m in server.bodies[-1]["messages"]] == ["Hi"]


def test_reasoning_is_dim_and_is_not_sent_back(server: ChatServer) -> None:
    server.streams["chat"] = THOUGHT_STREAM
    server.unending = events({"reasoning": "Hmm"})
    with Terminal.with_kvik("chat", "--url", server.url) as terminal:
        terminal.until("> ")
        terminal.press_enter("What?")
        assert terminal.until("Forty-two\n").endswith("\x1b[2mLet me think\x1b[0m\n\nForty-two\n")
        terminal.press_enter("forever")
        terminal.until("\x1b[2mHmm")
        terminal.interrupt_until("\x1b[0m")  # the prompt is not dim
        terminal.until("[stopped]")
        terminal.until("> ")
        terminal.press_enter("And?")
        terminal.until("Forty-two\n> ")
        terminal.press_ctrl("D")
        assert terminal.exit_code() == 0
    assert [m["content"] for m in server.bodies[-1]["messages"]] == ["What?", "Forty-two", "And?"]
    assert all(set(message) == {"role", "content"} for message in server.bodies[-1]["messages"])


def test_errors_are_said_and_the_prompt_comes_back(server: ChatServer) -> None:
    server.all_fail, server.status = False, 404
    with Terminal.with_kvik("chat", "--url", server.url, "--model-name", "third") as terminal:
        terminal.until("> ")
        terminal.press_enter("Hi")
        terminal.until("answers 404: no such model; --model-name can be first, second")
        terminal.until("> ")
        server.status = 200
        terminal.press_enter("Hi")
        terminal.until("Hej!\n> ")
        terminal.press_enter("/quit")
        assert terminal.exit_code() == 0


def test_texts_are_continued(server: ChatServer) -> None:
    with Terminal.with_kvik("complete", "--url", server.url, "--stats") as terminal:
        terminal.until("> ")
        terminal.press_enter("/zero")
        terminal.until("one two\n")
        terminal.until("tokens/s]\n> ")
        terminal.press_ctrl("D")
        assert terminal.exit_code() == 0
    assert [body["prompt"] for body in server.bodies] == ["/zero"]
