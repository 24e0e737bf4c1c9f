"""POST /drain and /undrain, and what streams and whole answers say that a shutdown ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kvik.errors import OverloadedError
from support.server_without_engine import Script, Server, events_of

Serve = Callable[..., Server]
KEY = {"Authorization": "Bearer secret"}
WORDS = "the server is shutting down; try another one"
MESSAGES = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 9, "model": "tiny"},
    "/v1/responses": {"input": "Hi"},
}


@pytest.fixture
def guarded(serve: Serve) -> Server:
    server = serve(api_key=("secret",))
    server.http.headers.update(KEY)
    return server


def statuses(server: Server, paths: list[str]) -> list[int]:
    return [server.http.get(path).status_code for path in paths]


def test_a_drained_server_refuses_work_and_nothing_else(guarded: Server) -> None:
    for _ in range(2):
        assert guarded.http.post("/drain").json() == {"status": "draining"}
    for path, body in BODIES.items():
        answer = guarded.http.post(path, json=body)
        assert answer.status_code == 503, path
        assert "being drained" in answer.json()["error"]["message"]
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["connection"] == "close"
    assert statuses(guarded, ["/ready", "/health", "/live", "/metrics", "/v1/models"]) == [503, 503, 200, 200, 200]
    assert guarded.http.get("/ready").json() == {"status": "draining"}
    assert guarded.http.post("/v1/responses/resp_1/cancel").status_code == 404, "there is none, but it may be asked for"
    assert guarded.http.post("/undrain").json() == {"status": "serving"}
    assert guarded.chat().status_code == 200
    assert statuses(guarded, ["/ready", "/health"]) == [200, 200]


def test_what_goes_down_stays_down(guarded: Server) -> None:
    guarded.state.is_draining = True
    assert guarded.http.post("/undrain").status_code == 503


def test_the_routes_are_for_operators(serve: Serve, guarded: Server) -> None:
    assert serve().http.post("/drain").status_code == 404
    assert serve(dev_mode=True).http.post("/drain").status_code == 200
    assert guarded.http.post("/drain", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert guarded.http.get("/ready").status_code == 200


def test_operators_may_do_all_they_can_while_it_is_drained(serve: Serve) -> None:
    server = serve(dev_mode=True)
    server.http.post("/drain")
    assert server.http.post("/abort_requests").status_code == 200
    assert server.http.post("/reset_prefix_cache").status_code == 200


@pytest.mark.parametrize("path", BODIES)
def test_a_whole_answer_that_a_shutdown_ends_is_a_503(serve: Serve, path: str) -> None:
    server = serve()
    server.llm.script = Script(["a"], failure=OverloadedError(WORDS))
    answer = server.http.post(path, json=BODIES[path])
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == WORDS
    assert "retry-after" in answer.headers


def last_events(server: Server, path: str) -> list[str]:
    server.llm.script = Script(["a", "b"], failure=OverloadedError(WORDS))
    answer = server.http.post(path, json=BODIES[path] | {"stream": True})
    assert answer.status_code == 200
    return answer.text.split("\n\n")[-3:-1]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_that_a_shutdown_ends_says_so(serve: Serve, path: str) -> None:
    error, done = last_events(serve(), path)
    (data,) = events_of(error + "\n\n")
    assert json.loads(data)["error"] == {
        "message": WORDS, "type": "ServiceUnavailableError", "param": None, "code": 503,
    }  # fmt: skip
    assert done == "data: [DONE]"


def test_a_stream_of_the_messages_api_says_so(serve: Serve) -> None:
    name, _, data = last_events(serve(), "/v1/messages")[-1].partition("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"] == {"type": "overloaded_error", "message": WORDS}


def test_a_stream_of_the_responses_api_says_so(serve: Serve) -> None:
    server = serve()
    server.llm.script = Script(["a", "b"], failure=OverloadedError(WORDS))
    text = server.http.post("/v1/responses", json={"input": "Hi", "stream": True}).text
    failed = next(event for event in text.split("\n\n") if event.startswith("event: response.failed"))
    response = json.loads(failed.partition("data: ")[2])["response"]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": WORDS}
