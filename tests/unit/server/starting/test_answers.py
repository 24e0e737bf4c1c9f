from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kvik.config.access import AccessConfig
from kvik.config.frontend import ServerConfig
from kvik.messages import Phase
from kvik.server import page_files
from kvik.server.access.keys import Key, plain_keys
from kvik.server.starting.answers import StartingAnswers
from kvik.server.starting.head import Head
from kvik.server.starting.progress import MAX_RETRY_AFTER_S
from kvik.telemetry.start_estimate import Expectation
from kvik.telemetry.timeline import Timeline

NOW_S = 100.0


def timeline(seconds: float = 12.2) -> Timeline:
    made = Timeline(90.0, Expectation.measured({"load weights": seconds}), lambda: NOW_S)
    made.observe(Phase("load weights", "EngineCore_DP0", NOW_S, None))
    return made


def ask(
    path: str, method: str = "GET", headers: Sequence[tuple[bytes, bytes]] = (), seconds: float = 12.2, **config: Any
) -> tuple[int, dict[str, str], Any]:
    made = ServerConfig(**config)

    def keys() -> Sequence[Key]:
        return plain_keys(made.api_key)

    answers = StartingAnswers(made, timeline(seconds), lambda: keys)
    head, _, body = answers.answer(Head(method, path, tuple(headers))).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    assert fields["connection"] == "close"
    assert method == "HEAD" or int(fields["content-length"]) == len(body)
    is_json = fields["content-type"] == "application/json"
    return int(first.split()[1]), fields, json.loads(body) if is_json and body else body.decode()


def test_it_lives() -> None:
    assert ask("/live")[::2] == (200, {"status": "starting"})


def test_how_far_it_is() -> None:
    status, _, body = ask("/startup")
    assert status == 200
    assert (body["status"], body["phase"], body["elapsed_s"], body["estimated_s_left"]) == (
        "starting", "load weights", 10.0, 12.2,
    )  # fmt: skip
    assert body["phases"] == [
        {"name": "load weights", "process": "EngineCore_DP0", "start_s": 10.0, "end_s": None, "num_bytes": None,
         "num_bytes_done": None},
    ]  # fmt: skip
    assert body["recoveries"] == []


@pytest.mark.parametrize("path", ["/ready", "/health", "/ping"])
def test_it_is_not_ready(path: str) -> None:
    status, headers, body = ask(path)
    assert (status, headers["retry-after"]) == (503, "13")
    assert body == {"status": "starting", "phase": "load weights", "estimated_s_left": 12.2}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/metrics", "/", "/no/such", "*", ""])
def test_all_else_is_told_to_come_again(path: str) -> None:
    status, headers, body = ask(path, "POST")
    assert (status, headers["retry-after"]) == (503, "13")
    error = body["error"]
    assert (error["type"], error["code"], error["param"]) == ("ServiceUnavailableError", 503, None)
    assert "load weights" in error["message"]
    assert "about 13 s" in error["message"]


def test_the_messages_api_has_its_own_shape() -> None:
    body = ask("/v1/messages", "POST")[2]
    assert (body["type"], body["error"]["type"]) == ("error", "overloaded_error")


@pytest.mark.parametrize(("seconds", "told"), [(0.0, "1"), (1e6, str(MAX_RETRY_AFTER_S))])
def test_nobody_is_sent_away_for_long_or_for_no_time(seconds: float, told: str) -> None:
    assert ask("/ready", seconds=seconds)[1]["retry-after"] == told


def test_a_prefix_of_a_proxy() -> None:
    assert ask("/prefix/live", root_path="/prefix/")[0] == 200
    assert ask("/live", root_path="prefix")[0] == 200
    assert ask("/prefixed/live", root_path="prefix")[0] == 503
    assert ask("/prefix", root_path="prefix")[0] == 503
    assert ask("/prefix/live")[0] == 503


def test_only_those_with_a_key_learn_how_far_it_is() -> None:
    status, headers, body = ask("/startup", api_key=("secret",))
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert body["error"]["type"] == "AuthenticationError"
    assert ask("/startup", headers=[(b"authorization", b"Bearer wrong")], api_key=("secret",))[0] == 401
    assert ask("/startup", headers=[(b"authorization", b"Bearer secret")], api_key=("secret",))[0] == 200
    assert ask("/startup", headers=[(b"x-api-key", b"secret")], api_key=("secret",))[0] == 200
    assert ask("/startup", api_key=("secret",), access=AccessConfig(open_paths=("/startup",)))[0] == 200
    assert ask("/live", api_key=("secret",))[0] == 200
    assert ask("/ready", api_key=("secret",))[0] == 503


def test_a_key_of_any_scope_will_do() -> None:
    key = Key("prometheus", hashlib.sha256(b"k").digest(), frozenset({"metrics"}))
    answers = StartingAnswers(ServerConfig(api_key=("other",)), timeline(), lambda: lambda: (key,))
    assert answers.answer(Head("GET", "/startup", ((b"x-api-key", b"k"),))).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/live", "/startup"])
def test_other_methods(path: str) -> None:
    status, headers, body = ask(path, "POST")
    assert (status, headers["allow"], body["error"]["code"]) == (405, "GET", 405)
    assert ask(path, "HEAD")[2] == ""


def test_people_get_a_page_that_looks_again() -> None:
    status, headers, page = ask("/docs", headers=[(b"accept", b"text/html,*/*")])
    assert (status, headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert 'http-equiv="refresh"' in page
    assert "load weights" in page
    assert "error" in ask("/docs")[2], "programs get JSON"


def test_the_page_is_there_from_the_beginning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page_files, "FOLDER", tmp_path)
    (tmp_path / "index.html").write_text("<p>page")
    assert ask("/ui", headers=[(b"accept", b"text/html")])[1]["location"] == "ui/"
    status, headers, page = ask("/prefix/ui/", root_path="prefix")
    assert (status, headers["content-type"], page) == (200, "text/html; charset=utf-8", "<p>page")
    assert headers["cache-control"] == "no-cache"
    assert ask("/ui/other.js")[0] == 404
