"""The client against a server of the standard library that answers what it is told to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes.chat_server import ChatServer, chat_server, events
from kvik.cli.answer import Answer
from kvik.cli.chat import ChatArgs, Conversation
from kvik.cli.client import Client, ClientArgs, sse_events
from kvik.cli.main import main
from kvik.errors import KvikError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    for name in ("KVIK_API_KEY", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with chat_server() as server:
        yield server


def test_a_quick_chat(server: ChatServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["chat", "--url", server.url, "-q", "Hi", "--system-prompt", "Be kind", "--max-tokens", "5", "--stats"]
    assert main([*words, "--api-key", "secret"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "Hej!\n"
    assert "2 tokens in" in captured.err
    assert server.keys == ["Bearer secret", "Bearer secret"]
    (body,) = server.bodies
    assert body["model"] == "first"
    assert body["messages"] == [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    assert body["max_completion_tokens"] == 5
    assert body["stream"]


def test_a_conversation_remembers(server: ChatServer) -> None:
    args = ChatArgs(url=server.url)
    conversation = Conversation(args, Client(args), "m")
    for text in ("one", "two"):
        assert [piece.text for piece in conversation.ask(text, Answer())] == ["Hej", "!"]
    assert [m["content"] for m in server.bodies[1]["messages"]] == ["one", "Hej!", "two"]


def test_a_quick_completion(server: ChatServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["complete", "--url", server.url, "--model-name", "m", "-q", "zero", "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out == "one two\n"
    (body,) = server.bodies
    assert (body["model"], body["prompt"], body["max_tokens"]) == ("m", "zero", 3)


def test_lines_of_stdin_are_questions(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(["a", "", "b"])

    def read(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    assert main(["complete", "--url", server.url]) == 0
    assert [body["prompt"] for body in server.bodies] == ["a", "b"]
    assert capsys.readouterr().out == "one two\none two\n"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, "/models answers 404: no such model; --url is the server's address with its /v1"),
        (401, "/models answers 401: no such model; give the server's key with --api-key or in KVIK_API_KEY"),
        (503, "/models answers 503: no such model"),
    ],
)
def test_the_servers_own_words_and_what_to_do(
    server: ChatServer, capsys: pytest.CaptureFixture[str], status: int, expected: str
) -> None:
    server.status = status
    for command in ("chat", "complete"):
        assert main([command, "--url", server.url, "-q", "Hi"]) == 1
        assert capsys.readouterr().err == f"kvik: error: {server.url}{expected}\n"


@pytest.mark.parametrize("command", ["chat", "complete"])
def test_a_model_that_is_not_there(server: ChatServer, capsys: pytest.CaptureFixture[str], command: str) -> None:
    server.status, server.all_fail = 404, False
    assert main([command, "--url", server.url, "--model-name", "third", "-q", "Hi"]) == 1
    assert "answers 404: no such model; --model-name can be first, second\n" in capsys.readouterr().err
    server.models = b"[]"
    assert main([command, "--url", server.url, "--model-name", "third", "-q", "Hi"]) == 1
    assert capsys.readouterr().err.endswith("answers 404: no such model\n")


@pytest.mark.parametrize("models", [b"<html>", b"[]", b'{"data": [1]}', b'{"object": "list"}'])
def test_a_server_of_something_else(server: ChatServer, models: bytes) -> None:
    server.models = models
    with pytest.raises(KvikError, match="answers with no list of models"):
        Client(ClientArgs(url=server.url)).first_model()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "nonsense", "http://127.0.0.1:x/v1"])
def test_no_server(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("chat", "complete"):
        assert main([command, "--url", url, "-q", "Hi"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("kvik: error: ")
        assert "cannot reach" in error or "is no address" in error


def test_reasoning_stays_out_of_a_file(server: ChatServer, capsys: pytest.CaptureFixture[str]) -> None:
    both = {"reasoning": "Hm.", "reasoning_content": "Hm.", "content": "Yes"}
    server.streams["chat"] = events({"reasoning": "Let me see. "}, both) + b"data: [DONE]\n\n"
    assert main(["chat", "--url", server.url, "-q", "Hi"]) == 0
    assert capsys.readouterr().out == "Yes\n"
    answer = Answer()
    pieces = list(
        Client(ClientArgs(url=server.url)).stream("/chat/completions", {"messages": [{"content": ""}]}, answer)
    )
    assert pieces == [("Let me see. ", True), ("Hm.", True), ("Yes", False)]
    assert answer.text == "Yes"


def test_a_stream_that_breaks_off(server: ChatServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.streams["chat"] = events({"content": "He"})
    assert main(["chat", "--url", server.url, "-q", "Hi"]) == 1
    assert "the stream broke off before its end" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'data: {"error": {"message": "engine died"}}\n', "engine died"),
        (b'data: {"error": "engine died"}\n', "engine died"),
        (b"data: {\n", "no JSON object"),
        (b"data: [1]\n", "no JSON object"),
        (b"data: \xff\n", "no JSON object"),
    ],
)
def test_what_can_be_wrong_in_a_stream(line: bytes, expected: str) -> None:
    with pytest.raises(KvikError, match=expected):
        list(sse_events([b": keep-alive\n", line]))


def test_words_without_a_flag_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "hello"]) == 2
    assert "for one question write --quick TEXT" in capsys.readouterr().err


def test_stats_without_usage() -> None:
    assert Answer().stats_line() == "[first token -; - tokens in 0.000 s; - tokens/s]"
    answer = Answer(num_tokens=11, first_piece_s=1.0, total_s=3.0)
    assert answer.stats_line() == "[first token 1.000 s; 11 tokens in 3.000 s; 5.0 tokens/s]"
