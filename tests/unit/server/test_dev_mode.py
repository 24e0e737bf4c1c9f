"""The routes of the development mode: off unless asked for, each with its answer, its refusals and no secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvik.config import env
from kvik.engine_client.control import EngineControl
from support.server_without_engine import Server

GETS = ("/server_info", "/is_sleeping", "/is_paused")
POSTS = (
    "/reset_prefix_cache",
    "/reset_mm_cache",
    "/reset_encoder_cache",
    "/sleep",
    "/wake_up",
    "/release_kv_cache_memory",
    "/pause",
    "/resume",
    "/collective_rpc",
    "/abort_requests",
)


@pytest.fixture
def dev(serve: Callable[..., Server]) -> Server:
    server = serve(dev_mode=True)
    server.llm.control = EngineControl(server.llm.core, server.llm.abort_all, may_sleep=True)
    return server


def post(server: Server, path: str, **options: Any) -> Any:
    return server.http.post(path, **options)


def test_off_unless_asked_for(server: Server) -> None:
    assert {server.http.get(path).status_code for path in GETS} == {404}
    assert {server.http.post(path).status_code for path in POSTS} == {404}


def test_the_variable_has_both_names() -> None:
    assert env.server_dev_mode({"KVIK_SERVER_DEV_MODE": "1"}) is True
    assert env.server_dev_mode({"VLLM_SERVER_DEV_MODE": "1"}) is True
    assert env.server_dev_mode({}) is False


def test_all_are_in_the_document(dev: Server) -> None:
    paths = dev.http.get("/openapi.json").json()["paths"]
    assert {path for path in GETS if "get" in paths[path]} == set(GETS)
    assert {path for path in POSTS if "post" in paths[path]} == set(POSTS)


def test_caches(dev: Server) -> None:
    assert post(dev, "/reset_prefix_cache").json() == {"success": True}
    assert post(dev, "/reset_prefix_cache?reset_running_requests=true&reset_external=true").json() == {"success": True}
    dev.llm.core.call_result = False
    assert post(dev, "/reset_prefix_cache").json() == {"success": False}
    assert [args for _, args in dev.llm.core.calls] == [(False,), (True,), (False,)]
    for path in ("/reset_mm_cache", "/reset_encoder_cache"):
        assert (post(dev, path).status_code, post(dev, path).content) == (200, b"")


def test_sleep_and_what_it_means_for_requests(dev: Server) -> None:
    assert post(dev, "/sleep?level=2").json() == {"status": "sleeping", "level": 2}
    assert dev.http.get("/is_sleeping").json() == {"is_sleeping": True}
    refused = dev.chat()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert "/wake_up" in refused.json()["error"]["message"]
    assert dev.http.get("/health").status_code == 200
    assert post(dev, "/wake_up?tags=weights").json() == {"status": "sleeping", "tags": ["weights"]}
    dev.llm.core.call_result = False
    assert post(dev, "/wake_up").json() == {"status": "awake", "tags": None}
    assert dev.http.get("/is_sleeping").json() == {"is_sleeping": False}
    assert dev.chat().status_code == 200
    assert dev.llm.core.calls == [("sleep", (2,)), ("wake_up", (["weights"],)), ("wake_up", (None,))]


def test_sleep_needs_its_flag(serve: Callable[..., Server]) -> None:
    refused = post(serve(dev_mode=True), "/sleep")
    assert refused.status_code == 400
    assert "--enable-sleep-mode" in refused.json()["error"]["message"]


def test_pause_and_resume(dev: Server) -> None:
    assert post(dev, "/pause?mode=keep&clear_cache=false").json() == {"status": "paused"}
    assert dev.http.get("/is_paused").json() == {"is_paused": True}
    assert post(dev, "/resume").json() == {"status": "resumed"}
    assert dev.http.get("/is_paused").json() == {"is_paused": False}
    assert post(dev, "/pause").json() == {"status": "paused"}
    assert dev.llm.aborted == ["*"]
    assert [name for name, _ in dev.llm.core.calls] == ["pause", "resume", "pause", "reset_prefix_cache"]


def test_release(dev: Server) -> None:
    assert post(dev, "/release_kv_cache_memory").json() == {"status": "kv_cache_released"}


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/sleep?level=3", "level"),
        ("/sleep?level=-1", "level"),
        ("/sleep?level=x", "level"),
        ("/sleep?mode=", "mode"),
        ("/sleep?levle=1", "levle"),
        ("/wake_up?tags=all", "tags"),
        ("/wake_up?level=1", "level"),
        ("/pause?mode=x", "mode"),
        ("/pause?clear_cache=maybe", "clear_cache"),
        ("/reset_prefix_cache?reset_running_requests=2", "reset_running_requests"),
        ("/reset_mm_cache?x=1", "x"),
        ("/resume?x=1", "x"),
    ],
)
def test_wrong_parameters_are_named(dev: Server, path: str, param: str) -> None:
    answer = post(dev, path)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert dev.llm.core.calls == []


def test_server_info_tells_no_secret(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "hush-hush")
    monkeypatch.setenv("KVIK_LOGGING_LEVEL", "INFO")
    server = serve(dev_mode=True, api_key=("top-secret",))
    for config_format in ("text", "json"):
        answer = server.http.get(
            f"/server_info?config_format={config_format}", headers={"authorization": "Bearer top-secret"}
        )
        body = answer.json()
        assert set(body) == {"vllm_config", "vllm_env", "system_env"}
        assert isinstance(body["vllm_config"], str if config_format == "text" else dict)
        assert body["vllm_env"]["VLLM_API_KEY"] == "***"
        assert body["vllm_env"]["KVIK_LOGGING_LEVEL"] == "INFO"
        assert "top-secret" not in answer.text
        assert "hush-hush" not in answer.text
    assert body["vllm_config"]["model"]["served_model_names"] == ["tiny", "alias"]
    assert server.http.get("/server_info").status_code == 401


def test_calls_by_name(dev: Server) -> None:
    dev.llm.core.call_result = ["generate"]
    answer = post(dev, "/collective_rpc", json={"method": "get_supported_tasks", "timeout": 5})
    assert answer.json() == {"results": [["generate"]]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"method": "__init__"}, "method"),
        ({"method": "sleep"}, "method"),
        ({}, "body.method"),
        ({"method": "describe", "args": [1]}, "args"),
        ({"method": "describe", "kwargs": {"a": 1}}, "kwargs"),
        ({"method": "describe", "timeout": -1}, "body.timeout"),
        ({"method": "describe", "timeout": "nan"}, "body.timeout"),
        ({"method": "describe", "other": 1}, "body.other"),
    ],
)
def test_calls_that_are_refused(dev: Server, body: dict[str, Any], param: str) -> None:
    answer = post(dev, "/collective_rpc", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert dev.llm.core.calls == []


def test_ending_requests(dev: Server) -> None:
    asked = post(dev, "/abort_requests", json={"request_ids": ["cmpl-1", "unknown", "cmpl-1"]})
    assert asked.json() == {"status": "aborted", "aborted": 1}
    assert post(dev, "/abort_requests").json() == {"status": "aborted", "aborted": 2}
    assert dev.llm.aborted == ["cmpl-1", "unknown", "*"]
    assert post(dev, "/abort_requests", json={"request_ids": "x"}).status_code == 400
