"""The client against a server of the standard library that answers what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from kvik.cli.chat import ChatArgs, Conversation
from kvik.cli.client import Answer, Client, ClientArgs, sse_events
from kvik.cli.main import main
from kvik.errors import KvikError

CHAT_STREAM = (
    b': keep-alive\n\ndata: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
    b'data: {"choices": [{"delta": {"content": "Hej"}}]}\n\ndata: {"choices": [{"delta": {"content": "!"}}]}\n\n'
    b'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\ndata: [DONE]\n\n'
)
TEXT_STREAM = b'data: {"choices": [{"text": "one"}]}\n\ndata: {"choices": [{"text": " two"}]}\n\ndata: [DONE]\n\n'


class FakeServer(HTTPServer):
    """Remembers requests; answers /v1/models, /v1/chat/completions and /v1/completions, or `status` with an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHandler)
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class FakeHandler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self._answer(b'{"data": [{"id": "first"}, {"id": "second"}]}')

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(CHAT_STREAM if "chat" in self.path else TEXT_STREAM)

    def _answer(self, body: bytes) -> None:
        self.server.keys.append(self.headers["Authorization"])
        if self.server.status != 200:
            body = b'{"error": {"message": "no such model"}}'
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    for name in ("KVIK_API_KEY", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with FakeServer() as fake:
        thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        fake.shutdown()
        thread.join()


def test_a_quick_chat(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_conversation_remembers(server: FakeServer) -> None:
    args = ChatArgs(url=server.url)
    conversation = Conversation(args, Client(args), "m")
    for text in ("one", "two"):
        assert "".join(conversation.ask(text, Answer())) == "Hej!"
    assert [m["content"] for m in server.bodies[1]["messages"]] == ["one", "Hej!", "two"]


def test_a_quick_completion(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["complete", "--url", server.url, "--model-name", "m", "-q", "zero", "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out == "one two\n"
    (body,) = server.bodies
    assert (body["model"], body["prompt"], body["max_tokens"]) == ("m", "zero", 3)


def test_lines_of_stdin_are_questions(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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


def test_the_servers_own_words_are_shown(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.status = 404
    assert main(["chat", "--url", server.url, "-q", "Hi"]) == 1
    assert capsys.readouterr().err == f"kvik: error: {server.url}/models answers 404: no such model\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "nonsense"])
def test_no_server(url: str) -> None:
    with pytest.raises(KvikError, match=r"cannot reach|is no address"):
        Client(ClientArgs(url=url)).first_model()


def test_an_error_inside_a_stream() -> None:
    lines = iter([b'data: {"error": {"message": "engine died"}}\n'])
    with pytest.raises(KvikError, match="engine died"):
        list(sse_events(lines))


def test_words_without_a_flag_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "hello"]) == 2
    assert "for one question write --quick TEXT" in capsys.readouterr().err


def test_stats_without_usage() -> None:
    assert Answer().stats_line() == "[first token -; - tokens in 0.000 s; - tokens/s]"
    answer = Answer(num_tokens=11, first_piece_s=1.0, total_s=3.0)
    assert answer.stats_line() == "[first token 1.000 s; 11 tokens in 3.000 s; 5.0 tokens/s]"
