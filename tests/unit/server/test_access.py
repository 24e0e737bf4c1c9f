"""Keys and scopes in front of the whole application, and the admin socket beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient, WebSocketDenialResponse

from kvik.config.access import AccessConfig
from kvik.server.access.door import AdminDoor
from kvik.server.access.keys import hash_key
from kvik.server.access.owner import owner_of
from support.server_without_engine import Server, make_server

MakeServer = Callable[..., Server]
ADMIN_ROUTES = ("/pause", "/abort_requests", "/reset_prefix_cache", "/v1/load_lora_adapter", "/drain")


@pytest.fixture
def keyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Keys team and rival (infer), prometheus (metrics), root (admin) and boss; each is the text of its name."""
    monkeypatch.setenv("KVIK_ALLOW_RUNTIME_LORA_UPDATING", "1")
    scopes = {
        "team": ["infer"], "rival": ["infer"], "prometheus": ["metrics"], "root": ["admin"], "boss": ["infer", "admin"],
    }  # fmt: skip
    entries = [{"name": n, "sha256": hash_key(n.encode()).hex(), "scopes": s} for n, s in scopes.items()]
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(entries))
    path.chmod(0o600)
    return make_server(dev_mode=True, access=AccessConfig(api_key_file=str(path)))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def app_of(server: Server) -> FastAPI:
    app = server.http.app
    assert isinstance(app, FastAPI)
    return app


def test_each_scope_opens_its_own_routes(keyed: Server) -> None:
    expected = {
        "/v1/models": {"team"}, "/metrics": {"prometheus"}, "/load": {"prometheus"}, "/is_paused": {"root"},
        "/debug/requests": {"root"}, "/plan": {"prometheus"},
        "/server_info": {"root"}, "/version": {"team", "prometheus", "root"}, "/docs": {"team", "prometheus", "root"},
    }  # fmt: skip
    for path, names in expected.items():
        assert keyed.http.get(path).status_code == 401
        for name in ("team", "prometheus", "root"):
            status = keyed.http.get(path, headers=bearer(name)).status_code
            assert status == (200 if name in names else 403), (path, name)


def test_a_refusal_says_which_scope_is_needed(keyed: Server) -> None:
    answer = keyed.http.post("/pause", headers=bearer("team"))
    assert (answer.status_code, answer.json()["detail"]) == (403, "Forbidden")
    error = answer.json()["error"]
    assert error["type"] == "PermissionDeniedError"
    assert error["message"] == "POST /pause needs a key with the scope admin; the key team has infer"
    messages = keyed.http.post("/v1/messages", headers={"x-api-key": "root"}, json={})
    assert (messages.status_code, messages.json()["error"]["type"]) == (403, "permission_error")


def test_a_mistyped_path_is_told_to_those_who_may_infer(keyed: Server) -> None:
    assert keyed.http.get("/v1/chat/completion", headers=bearer("team")).status_code == 404
    assert keyed.http.get("/nowhere", headers=bearer("team")).status_code == 403
    assert keyed.http.get("/nowhere", headers=bearer("root")).status_code == 404


def test_a_route_that_is_added_later_is_closed(keyed: Server) -> None:
    async def later(request: Request) -> Response:
        return PlainTextResponse(owner_of(request.scope))

    app_of(keyed).add_route("/later", later)
    assert keyed.http.get("/later").status_code == 401
    assert keyed.http.get("/later", headers=bearer("team")).status_code == 403
    assert keyed.http.get("/later", headers=bearer("root")).text == "root"


def test_the_owner_is_the_keys_name(serve: MakeServer) -> None:
    owners: dict[str, Any] = {}

    async def probe(request: Request) -> Response:
        return PlainTextResponse(owner_of(request.scope))

    for label, server in {"keys": serve(api_key=("a", "b")), "none": serve()}.items():
        app_of(server).add_route("/probe", probe)
        owners[label] = server.http.get("/probe", headers=bearer("b")).text
    assert owners == {"keys": "api-key-2", "none": "anonymous"}


def test_an_owner_cannot_be_sent(serve: MakeServer) -> None:
    server = serve()

    async def probe(request: Request) -> Response:
        return PlainTextResponse(owner_of(request.scope))

    app_of(server).add_route("/probe", probe)
    assert server.http.get("/probe", headers={"kvik.owner": "root", "X-Kvik-Owner": "root"}).text == "anonymous"


def test_paths_can_be_opened(serve: MakeServer) -> None:
    server = serve(api_key=("k",), access=AccessConfig(open_paths=("/metrics", "/docs")))
    assert {server.http.get(path).status_code for path in ("/metrics", "/docs")} == {200}
    assert {server.http.get(path).status_code for path in ("/version", "/openapi.json", "/load")} == {401}


def test_websockets_need_a_key_too(serve: MakeServer) -> None:
    http = serve(api_key=("k",)).http
    with pytest.raises(WebSocketDenialResponse) as refused, http.websocket_connect("/health"):
        pass
    assert refused.value.status_code == 401


def test_admin_routes_are_on_their_socket_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVIK_ALLOW_RUNTIME_LORA_UPDATING", "1")
    server = make_server(dev_mode=True, api_key=("k",), access=AccessConfig(admin_uds="/run/kvik-admin"))
    inside = TestClient(AdminDoor(app_of(server)))
    for path in ADMIN_ROUTES:
        assert server.http.post(path).status_code == 401
        answer = server.http.post(path, headers=bearer("k"))
        assert answer.status_code == 404
        assert "--admin-uds" in answer.json()["error"]["message"]
    assert inside.post("/pause").json() == {"status": "paused"}
    assert inside.post("/resume").status_code == 200
    assert inside.get("/metrics").status_code == inside.get("/health").status_code == 200
    refused = inside.post("/v1/completions", json={"prompt": "x"})
    assert refused.status_code == 404
    assert "no inference" in refused.json()["error"]["message"]
    assert server.http.get("/v1/models", headers=bearer("k")).status_code == 200


def test_the_admin_sockets_owner(serve: MakeServer) -> None:
    server = serve(access=AccessConfig(admin_uds="/run/kvik-admin"))

    async def probe(request: Request) -> Response:
        return PlainTextResponse(owner_of(request.scope))

    app_of(server).add_route("/probe", probe)
    assert TestClient(AdminDoor(app_of(server))).get("/probe").text == "admin-uds"
    assert server.http.get("/probe").status_code == 404


def test_pages_of_the_documentation_are_not_framed(server: Server) -> None:
    for path in ("/docs", "/redoc"):
        headers = server.http.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
    assert "content-security-policy" not in server.http.get("/v1/models").headers


def test_stored_responses_are_their_owners_alone(keyed: Server) -> None:
    body = {"model": keyed.state.model_names[0], "input": "a", "request_id": "resp_mine"}
    assert keyed.http.post("/v1/responses", json=body, headers=bearer("team")).status_code == 200
    path = "/v1/responses/resp_mine"
    assert keyed.http.get(path, headers=bearer("team")).status_code == 200
    for ask in (keyed.http.get, keyed.http.delete):
        assert ask(path, headers=bearer("rival")).status_code == 404
    assert keyed.http.get(f"{path}/input_items", headers=bearer("rival")).status_code == 404
    stranger = dict(body, previous_response_id="resp_mine", request_id="resp_other")
    assert keyed.http.post("/v1/responses", json=stranger, headers=bearer("rival")).status_code == 404
    # Whether an id is taken by somebody else cannot be found out.
    assert keyed.http.post("/v1/responses", json=body, headers=bearer("rival")).status_code == 200
    assert keyed.http.delete(path, headers=bearer("team")).status_code == 200
    assert keyed.http.get(path, headers=bearer("rival")).status_code == 200


@pytest.mark.parametrize(("key", "caller"), [("team", "team"), ("boss", None)])
def test_a_client_ends_its_own_requests_and_an_admin_all(keyed: Server, key: str, caller: str | None) -> None:
    callers: list[str | None] = []

    async def abort(request_id: str, caller: str | None = None) -> int:
        callers.append(caller)
        return 1

    keyed.llm.abort = abort  # type: ignore[method-assign]
    answer = keyed.http.post("/v1/abort", json={"request_ids": ["cmpl-1"]}, headers=bearer(key))
    assert (answer.status_code, callers) == (200, [caller])
