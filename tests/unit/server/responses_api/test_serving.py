"""Responses by id, chains of them, and answers in the background, on a fake engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kvik.server.errors import describe
from kvik.server.responses import error_response
from kvik.server.responses_api.errors import TooManyResponsesError
from kvik.server.responses_api.store import ResponseStore
from support.live_server import Live, live_server
from support.response_events import checked_events, events_of, response_of
from support.server_without_engine import Script, Server


def post(server: Server, **fields: Any) -> Any:
    return server.http.post("/v1/responses", json={"input": "Hi"} | fields)


def test_a_stored_response_can_be_read_again(server: Server) -> None:
    body = post(server).json()
    found = server.http.get(f"/v1/responses/{body['id']}")
    assert found.json() == body


def test_what_is_not_stored_cannot(server: Server) -> None:
    name = post(server, store=False).json()["id"]
    answer = server.http.get(f"/v1/responses/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": answer.json()["error"]["message"], "type": "invalid_request_error", "param": "response_id",
        "code": 404,
    }  # fmt: skip


def test_a_stream_can_be_read_again_from_any_event(server: Server) -> None:
    text = post(server, stream=True).text
    events = checked_events(text)
    path = f"/v1/responses/{events[0]['response']['id']}?stream=true"
    assert server.http.get(path).text == text
    for after in (0, 3, len(events) - 2):
        assert events_of(server.http.get(f"{path}&starting_after={after}").text) == events[after + 1 :]
    assert server.http.get(f"{path}&starting_after=999").text == ""


@pytest.mark.parametrize("query", ["stream=x", "stream=true&starting_after=x", "starting_after=-1", "starting_after=3"])
def test_a_wrong_query_is_a_400(server: Server, query: str) -> None:
    name = post(server, stream=True).text.split('"id":"')[1].split('"')[0]
    answer = server.http.get(f"/v1/responses/{name}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in query


def test_what_was_made_whole_has_no_events(server: Server) -> None:
    name = post(server).json()["id"]
    assert server.http.get(f"/v1/responses/{name}?stream=true").json()["error"]["param"] == "stream"


def test_a_chain_holds_the_whole_conversation_and_no_old_instructions(server: Server) -> None:
    first = post(server, instructions="one").json()
    second = post(server, input="And?", previous_response_id=first["id"], instructions="two").json()
    third = post(server, input="So?", previous_response_id=second["id"])
    assert third.json()["previous_response_id"] == second["id"]
    assert server.llm.asked[-1].prompt == (
        "<user>Hi<assistant>Hello<user>And?<assistant>Hello<user>So?<assistant>"
    )  # fmt: skip
    assert server.llm.asked[-2].prompt.startswith("<system>two<user>Hi")


def test_a_chain_outlives_its_beginning(server: Server) -> None:
    first = post(server).json()["id"]
    second = post(server, previous_response_id=first).json()["id"]
    assert server.http.delete(f"/v1/responses/{first}").json() == {"id": first, "object": "response", "deleted": True}
    assert post(server, previous_response_id=second).status_code == 200
    answer = post(server, previous_response_id=first)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "previous_response_id")


def test_items_can_be_referred_to(server: Server) -> None:
    body = post(server).json()
    item = {"type": "item_reference", "id": body["output"][0]["id"]}
    assert post(server, input=[item, {"role": "user", "content": "?"}]).status_code == 200
    assert server.llm.asked[-1].prompt == "<assistant>Hello<user>?<assistant>"


def test_the_items_of_a_request_are_listed(server: Server) -> None:
    first = post(server).json()
    second = post(server, input="And?", previous_response_id=first["id"]).json()
    path = f"/v1/responses/{second['id']}/input_items"
    page = server.http.get(f"{path}?order=asc").json()
    texts = [item["content"][0]["text"] for item in page["data"]]
    assert (texts, page["has_more"]) == (["Hi", "Hello", "And?"], False)
    page = server.http.get(f"{path}?limit=2").json()
    assert ([i["content"][0]["text"] for i in page["data"]], page["has_more"]) == (["And?", "Hello"], True)
    rest = server.http.get(f"{path}?after={page['last_id']}").json()
    assert [item["content"][0]["text"] for item in rest["data"]] == ["Hi"]
    for query in ("limit=0", "limit=101", "limit=x", "order=up", "after=msg_1"):
        answer = server.http.get(f"{path}?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.split("=")[0])


@pytest.mark.parametrize("method", ["get", "delete"])
@pytest.mark.parametrize("path", ["", "/input_items", "/cancel"])
def test_unknown_ids_are_404(server: Server, method: str, path: str) -> None:
    if (method, path) == ("delete", "/input_items") or path == "/cancel":
        method = "post" if path == "/cancel" else "get"
    answer = getattr(server.http, method)(f"/v1/responses/resp_nope{path}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "response_id")


def test_only_what_runs_in_the_background_can_be_cancelled(server: Server) -> None:
    name = post(server).json()["id"]
    answer = server.http.post(f"/v1/responses/{name}/cancel")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_id")


def test_the_background_needs_a_store(server: Server, serve: Callable[..., Server]) -> None:
    assert post(server, background=True, store=False).json()["error"]["param"] == "background"
    storeless = serve(max_stored_responses=0)
    assert post(storeless, background=True).json()["error"]["param"] == "background"
    name = post(storeless).json()["id"]
    assert storeless.http.get(f"/v1/responses/{name}").status_code == 404
    assert post(storeless, previous_response_id=name).json()["error"]["param"] == "previous_response_id"


def test_keys_guard_what_is_stored(serve: Callable[..., Server]) -> None:
    server = serve(api_key=("secret",))
    assert server.http.get("/v1/responses/resp_x").status_code == 401


# --- on a real uvicorn ---------------------------------------------------------------------------------


def scenario(body: Callable[[Live], Any], **flags: Any) -> None:
    async def run() -> None:
        async with live_server(**flags) as live:
            await body(live)

    asyncio.run(asyncio.wait_for(run(), 20))


async def call(live: Live, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One request on its own connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    data = b"" if body is None else json.dumps(body).encode()
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n".encode()
        + data
    )
    head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ")[1]), json.loads(content)


async def status_is(live: Live, name: str, status: str) -> Any:
    """Ask until it is so; another task makes it so."""
    while True:
        _, body = await call(live, "GET", f"/v1/responses/{name}")
        if body["status"] == status:
            return body


def body_of(**fields: Any) -> bytes:
    return json.dumps({"input": "Hi"} | fields).encode()


async def events_from(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    while True:
        line = await reader.readline()
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def test_a_closed_connection_aborts_a_stream_and_nothing_is_stored() -> None:
    async def body(live: Live) -> None:
        live.llm.script = Script(["one", "two"], hold_after=1)
        reader, writer = await live.open("/v1/responses", body_of(stream=True))
        head = await reader.readuntil(b'"delta":"one"')
        name = head.split(b'"id":"')[1].split(b'"')[0].decode()
        writer.close()
        await live.until_aborted()
        assert (await call(live, "GET", f"/v1/responses/{name}"))[0] == 404

    scenario(body)


def test_a_closed_connection_aborts_a_whole_answer() -> None:
    async def body(live: Live) -> None:
        live.llm.script = Script(hold_after=0)
        _, writer = await live.open("/v1/responses", body_of())
        await live.llm.news.wait()
        writer.close()
        await live.until_aborted()

    scenario(body)


def test_the_background_goes_on_without_its_client() -> None:
    async def body(live: Live) -> None:
        status, queued = await call(live, "POST", "/v1/responses", {"input": "Hi", "background": True})
        assert (status, queued["status"], queued["background"]) == (200, "queued", True)
        response_of(queued)
        done = await status_is(live, queued["id"], "completed")
        assert done["output"][0]["content"][0]["text"] == "Hello"
        _, again = await call(live, "POST", f"/v1/responses/{queued['id']}/cancel")
        assert "ended already" in again["error"]["message"]

    scenario(body)


def test_a_stream_of_the_background_is_replayed_then_followed() -> None:
    async def body(live: Live) -> None:
        live.llm.script = Script(["one", "two"], hold_after=1)
        reader, writer = await live.open("/v1/responses", body_of(background=True, stream=True))
        events = events_from(reader)
        first = [await anext(events) for _ in range(6)]
        assert [event["type"].removeprefix("response.") for event in first] == [
            "created", "queued", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        ]  # fmt: skip
        writer.close()
        name = first[0]["response"]["id"]
        running = await status_is(live, name, "in_progress")
        assert running["output"][0]["content"][0]["text"] == "one"
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(f"GET /v1/responses/{name}?stream=true&starting_after=3 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        follower = events_from(reader)
        assert [await anext(follower), await anext(follower)] == first[4:]
        assert live.llm.aborted == []
        status, cancelled = await call(live, "POST", f"/v1/responses/{name}/cancel")
        assert (status, cancelled["status"]) == (200, "cancelled")
        assert live.llm.aborted == [name]
        rest = [await anext(follower) for _ in range(4)]
        assert rest[-1]["type"] == "response.incomplete"
        assert rest[-1]["response"]["status"] == "cancelled"
        assert rest[-1]["response"]["output"][0]["status"] == "incomplete"
        writer.close()
        assert await call(live, "POST", f"/v1/responses/{name}/cancel") == (200, cancelled)

    scenario(body)


def test_what_waits_can_be_cancelled_and_what_runs_deleted() -> None:
    async def body(live: Live) -> None:
        live.llm.script = Script(hold_after=0)
        names = [
            (await call(live, "POST", "/v1/responses", {"input": "Hi", "background": True}))[1]["id"] for _ in "ab"
        ]
        _, refused = await call(live, "POST", "/v1/responses", {"input": "x", "previous_response_id": names[0]})
        assert refused["error"]["param"] == "previous_response_id"
        _, cancelled = await call(live, "POST", f"/v1/responses/{names[0]}/cancel")
        assert cancelled["status"] == "cancelled"
        assert cancelled["output"] == []
        assert (await call(live, "DELETE", f"/v1/responses/{names[1]}"))[0] == 200
        assert live.llm.aborted == names
        assert (await call(live, "GET", f"/v1/responses/{names[1]}"))[0] == 404

    scenario(body)


def test_so_many_in_the_background_and_no_more() -> None:
    async def body(live: Live) -> None:
        live.llm.script = Script(hold_after=0)
        request = {"input": "Hi", "background": True}
        assert (await call(live, "POST", "/v1/responses", request))[0] == 200
        status, refused = await call(live, "POST", "/v1/responses", request)
        assert (status, refused["error"]["type"]) == (429, "RateLimitError")
        assert (await call(live, "POST", "/v1/responses", {"input": "Hi", "model": "nope"}))[0] == 404

    scenario(body, max_background_responses=1)


def test_who_is_turned_away_for_now_is_told_when_to_come_back() -> None:
    answer = error_response(describe(TooManyResponsesError("full")))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")


def test_a_failure_in_the_background_is_a_status() -> None:
    async def body(live: Live) -> None:
        live.llm.script = Script(["a"], failure=RuntimeError("secret detail"))
        _, queued = await call(live, "POST", "/v1/responses", {"input": "Hi", "background": True})
        failed = await status_is(live, queued["id"], "failed")
        assert failed["error"]["code"] == "server_error"
        assert "secret" not in failed["error"]["message"]

    scenario(body)


def test_the_store_is_bounded_by_flags() -> None:
    async def body(live: Live) -> None:
        names = [(await call(live, "POST", "/v1/responses", {"input": "Hi"}))[1]["id"] for _ in "abc"]
        assert [(await call(live, "GET", f"/v1/responses/{name}"))[0] for name in names] == [404, 200, 200]

    scenario(body, max_stored_responses=2)


def test_the_store_is_the_applications(server: Server) -> None:
    store = server.http.app.state.responses  # type: ignore[attr-defined]
    assert isinstance(store, ResponseStore)
    post(server)
    assert len(store) == 1


def test_input_tokens_are_counted_and_nothing_is_generated(server: Server) -> None:
    def count(**fields: Any) -> Any:
        return server.http.post("/v1/responses/input_tokens", json={"input": "Hi"} | fields)

    answer = count().json()
    assert answer["object"] == "response.input_tokens"
    assert answer["input_tokens"] == post(server).json()["usage"]["input_tokens"]
    assert count(instructions="Be brief.").json()["input_tokens"] > answer["input_tokens"]
    assert count(model="nobody").status_code == 404
    assert count(input=[]).status_code == 400
    assert len(server.llm.asked) == 1
