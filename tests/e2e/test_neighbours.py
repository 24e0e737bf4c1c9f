"""Nothing that one client sends, whatever it is, changes a token of another's stream, or ends in a 5xx."""

from __future__ import annotations

import threading

from openai import OpenAI

from support.bad_requests import bad_requests
from support.server import MODEL, KvikServer

MAX_BODY_CHARS_SHOWN = 200


class Victim(threading.Thread):
    """Streams the same long answer again and again, until it is told to stop."""

    def __init__(self, client: OpenAI) -> None:
        super().__init__()
        self._client = client
        self._must_stop = threading.Event()
        self.has_begun = threading.Event()
        self.answers: list[str] = []

    def run(self) -> None:
        while not self._must_stop.is_set():
            self.answers.append(self.answer())

    def answer(self) -> str:
        stream = self._client.completions.create(
            model=MODEL, prompt="Once upon a time", max_tokens=100, temperature=0, stream=True,
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        text = ""
        for chunk in stream:
            self.has_begun.set()
            text += chunk.choices[0].text
        return text

    def stop(self) -> list[str]:
        self._must_stop.set()
        self.join()
        return self.answers


def test_a_victim_streams_on_beside_every_bad_request(server: KvikServer, client: OpenAI) -> None:
    victim = Victim(client)
    alone = victim.answer()
    victim.has_begun.clear()
    victim.start()
    try:
        assert victim.has_begun.wait(30)
        requests = bad_requests()
        statuses = [server.request("POST", path, body)[0] for path, body in requests]
    finally:
        answers = victim.stop()
    wrong = [
        (status, path, str(body)[:MAX_BODY_CHARS_SHOWN])
        for status, (path, body) in zip(statuses, requests, strict=True)
        if not 400 <= status < 500
    ]
    assert not wrong
    assert set(answers) == {alone}
