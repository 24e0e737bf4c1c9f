from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers

from kvik.engine_client.admission.ticket import Ticket, WaitReason
from kvik.errors import InvalidRequestError, QueueFullError
from kvik.server.tickets import owner_of, read_timeout
from support.server_without_engine import Server, make_server

BODY = {"prompt": "a", "max_tokens": 2}


def noting(server: Server, *notes: tuple[int, WaitReason | None]) -> list[Ticket]:
    """Have the engine client write these into the tickets that it gets."""
    add_request, seen = server.llm.add_request, []

    async def add(*args: Any, ticket: Ticket, **options: Any) -> Any:
        seen.append(ticket)
        for note in notes:
            ticket.note(*note)
        return await add_request(*args, ticket=ticket, **options)

    server.llm.add_request = add  # type: ignore[method-assign,assignment]
    return seen


@pytest.mark.parametrize("stream", [False, True])
def test_answers_tell_how_they_waited(stream: bool) -> None:
    server = make_server()
    noting(server, (3, WaitReason.SLOTS), (2, WaitReason.BUDGET))
    answer = server.http.post("/v1/completions", json=dict(BODY, stream=stream))
    assert answer.status_code == 200
    assert answer.headers["x-kvik-queue-position"] == "3"
    assert answer.headers["x-kvik-waiting-for"] == "slots"


def test_who_did_not_wait_waited_for_nothing() -> None:
    server = make_server()
    noting(server, (0, None))
    answer = server.http.post("/v1/completions", json=BODY)
    assert answer.headers["x-kvik-queue-position"] == "0"
    assert "x-kvik-waiting-for" not in answer.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", BODY),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ("/v1/messages", {"model": "served", "max_tokens": 3, "messages": [{"role": "user", "content": "a"}]}),
        ("/v1/responses", {"input": "a"}),
    ],
)
def test_all_routes_hand_on_owner_and_deadline(path: str, body: dict[str, Any]) -> None:
    server = make_server()
    seen = noting(server)
    body = dict(body, model=server.state.model_names[0])
    server.http.post(path, json=body, headers={"X-Request-Timeout": "2.5", "x-api-key": "k"})
    (ticket,) = seen
    assert ticket.deadline_s is not None
    assert ticket.owner == owner_of({}, Headers({"authorization": "Bearer k"}), None) != ""


@pytest.mark.parametrize("value", ["", "soon", "0", "-1", "nan", "inf", "1e9", "\u0663"])
def test_nonsense_is_no_timeout(value: str) -> None:
    with pytest.raises(InvalidRequestError, match="X-Request-Timeout takes seconds"):
        read_timeout(value)


def test_a_bad_timeout_is_answered_with_400() -> None:
    answer = make_server().http.post("/v1/completions", json=BODY, headers={"X-Request-Timeout": "soon"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Request-Timeout"


def test_a_refusal_says_when_to_come_again() -> None:
    server = make_server()

    async def refuse(*args: Any, **options: Any) -> Any:
        raise QueueFullError("full", retry_after_s=17)

    server.llm.add_request = refuse  # type: ignore[method-assign]
    answer = server.http.post("/v1/completions", json=BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "17")
    assert "x-kvik-queue-position" not in answer.headers


def test_owners() -> None:
    by_key = owner_of({}, Headers({"authorization": "Bearer secret"}), None)
    assert by_key == owner_of({}, Headers({"x-api-key": "secret"}), None)
    assert "secret" not in by_key
    assert owner_of({}, Headers({}), None) == ""
    tenants = [owner_of({}, Headers({"x-tenant": t, "authorization": "Bearer secret"}), "X-Tenant") for t in ("a", "b")]
    assert len({*tenants, by_key}) == 3


def test_a_flood_is_refused_unread() -> None:
    server = make_server()
    server.llm.is_hopeless = True
    answer = server.http.post("/v1/chat/completions", content=b"not even JSON")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["error"]["type"] == "RateLimitError"
    assert server.http.post("/v1/messages", content=b"{").json()["type"] == "error"
    sample = 'http_requests_total{handler="/v1/chat/completions",method="POST",status="4xx"} 1.0'
    assert sample in server.http.get("/metrics").text


def test_what_is_no_work_for_the_engine_is_not_part_of_a_flood() -> None:
    server = make_server()
    server.llm.is_hopeless = True
    assert server.http.post("/tokenize", json={"prompt": "a"}).status_code == 200
    assert server.http.get("/v1/models").status_code == 200
