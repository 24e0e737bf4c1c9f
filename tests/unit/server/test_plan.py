from __future__ import annotations

from support.server_without_engine import Server, make_server


def test_a_plan_of_the_running_server() -> None:
    server: Server = make_server()
    server.llm.ledger.account("requests", 100, "--a-flag").take(7)
    body = server.http.get("/plan").json()
    assert body["architecture"] == "LlamaForCausalLM"
    assert body["device"]["kind"] == "cpu"
    assert {"part": "requests", "bytes": 7, "limit_bytes": 100} in body["ledger"]


def test_a_checkpoint_that_has_gone_away_is_no_error() -> None:
    server: Server = make_server()
    assert server.llm.config.load.load_format != "dummy"
    assert server.http.get("/plan").status_code == 200


def test_it_needs_a_key_that_may_see_metrics() -> None:
    server: Server = make_server(api_key=("sesame",))
    assert server.http.get("/plan").status_code == 401
    assert server.http.get("/plan", headers={"x-api-key": "sesame"}).status_code == 200
