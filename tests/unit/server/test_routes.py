"""Everything but generation: probes, models, tokenizer, documentation, metrics, and what surrounds each request."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kvik
from kvik.text.chat_template import ChatTemplate
from support.server_without_engine import MAX_MODEL_LEN, Server

MakeServer = Callable[..., Server]


def test_health_tells_of_drain_and_death(server: Server) -> None:
    for method, path in (("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")):
        answer = server.http.request(method, path)
        assert (answer.status_code, answer.content) == (200, b"")
    server.state.is_draining = True
    assert server.http.get("/health").status_code == 503
    server.state.is_draining = False
    server.llm.is_dead = True
    assert server.http.get("/health").status_code == 503


def test_while_draining_what_acts_is_refused_and_probes_answer(server: Server) -> None:
    server.state.is_draining = True
    answer = server.chat()
    assert answer.status_code == 503
    assert answer.headers["retry-after"].isdecimal()
    assert answer.json()["error"]["type"] == "ServiceUnavailableError"
    assert server.http.get("/metrics").status_code == 200
    assert server.http.get("/version").json() == {"version": kvik.__version__}


def test_a_dead_engine_takes_no_requests(server: Server) -> None:
    server.llm.is_dead = True
    assert server.complete().status_code == 503


def test_load_is_zero_without_the_flag_and_at_rest_with_it(server: Server, serve: MakeServer) -> None:
    assert server.http.get("/load").json() == {"server_load": 0}
    tracking = serve(enable_server_load_tracking=True)
    seen: list[int] = []
    script = tracking.llm.add_request

    async def add_request(*args: Any, **kwargs: Any) -> Any:
        seen.append(tracking.state.num_in_flight)
        return await script(*args, **kwargs)

    tracking.llm.add_request = add_request  # type: ignore[method-assign]
    tracking.chat()
    assert seen == [1]
    assert tracking.http.get("/load").json() == {"server_load": 0}


def test_models(server: Server) -> None:
    body = server.http.get("/v1/models").json()
    assert [card["id"] for card in body["data"]] == ["tiny", "alias"]
    card = body["data"][0]
    permission = card.pop("permission")[0]
    assert isinstance(card.pop("created"), int)
    assert card == {
        "id": "tiny", "object": "model", "owned_by": "kvik", "root": "/models/tiny", "parent": None,
        "max_model_len": MAX_MODEL_LEN,
    }  # fmt: skip
    assert permission.pop("id").startswith("modelperm-")
    assert isinstance(permission.pop("created"), int)
    assert permission == {
        "object": "model_permission", "allow_create_engine": False, "allow_sampling": True, "allow_logprobs": True,
        "allow_search_indices": False, "allow_view": True, "allow_fine_tuning": False, "organization": "*",
        "group": None, "is_blocking": False,
    }  # fmt: skip
    assert server.http.get("/v1/models/alias").json()["id"] == "alias"


def test_tokenize_a_prompt_or_a_conversation(server: Server) -> None:
    body = server.http.post("/tokenize", json={"prompt": "Hi", "return_token_strs": True}).json()
    assert body == {"count": 3, "max_model_len": 200, "tokens": [256, 72, 105], "token_strs": ["<s>", "H", "i"]}
    body = server.http.post("/tokenize", json={"messages": [{"role": "user", "content": "Hi"}]}).json()
    assert (body["tokens"], body["token_strs"]) == (list(b"<user>Hi<assistant>"), None)
    assert server.http.post("/tokenize", json={"prompt": "x" * 20000}).json()["count"] == 20001


@pytest.mark.parametrize(
    "fields", [{}, {"prompt": "a", "messages": []}, {"prompt": "a", "tools": []}, {"messages": []}, {"prompt": 5}]
)
def test_tokenize_refuses(server: Server, fields: dict[str, Any]) -> None:
    assert server.http.post("/tokenize", json=fields).status_code == 400


def test_detokenize_refuses_ids_outside_the_vocabulary(server: Server) -> None:
    assert server.http.post("/detokenize", json={"tokens": [72, 105]}).json() == {"prompt": "Hi"}
    for tokens in ([72, 258], [2**31 - 1] * 9000):
        refused = server.http.post("/detokenize", json={"tokens": tokens})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tokens")
        assert "ids 0 to 257" in refused.json()["error"]["message"]
        assert len(refused.content) < 1000
    assert server.http.post("/detokenize", json={"tokens": [-1]}).status_code == 400


def test_long_lists_are_detokenized_whole(server: Server) -> None:
    assert server.http.post("/detokenize", json={"tokens": [65] * 9000}).json() == {"prompt": "A" * 9000}


def test_tokenize_gives_tools_to_the_template(server: Server) -> None:
    server.llm.chat_template = ChatTemplate(
        "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}{{ messages[0].content }}"
    )
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"type": "function", "function": {"name": name}} for name in "fg"],
    }
    tokens = server.http.post("/tokenize", json=body).json()["tokens"]
    assert bytes(tokens) == b"[f][g]Hi"
    assert server.http.post("/tokenize", json=body | {"tools": ["f"]}).status_code == 400


def test_there_are_no_kv_events(server: Server) -> None:
    assert server.http.get("/kv_event_sources").json() == {}


def test_invocations_are_conversations_or_prompts(server: Server) -> None:
    chat = server.http.post("/invocations", json={"messages": [{"role": "user", "content": "Hi"}]})
    assert chat.json()["object"] == "chat.completion"
    assert server.http.post("/invocations", json={"prompt": "Hi"}).json()["object"] == "text_completion"
    streamed = server.http.post("/invocations", json={"prompt": "Hi", "stream": True})
    assert streamed.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("body", ["{}", "[]", "5", '{"messages": null}', '{"messages": 5}', '{"prompt": []}', "{", ""])
def test_invocations_of_nothing_known(server: Server, body: str) -> None:
    answer = server.http.post("/invocations", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_all_small_routes_are_in_the_document(serve: Any) -> None:
    paths = serve(enable_tokenizer_info_endpoint=True, enable_scale_out=True).http.get("/openapi.json").json()["paths"]
    wanted = {
        "/health", "/ping", "/load", "/version", "/metrics", "/v1/models", "/v1/models/{model_id}", "/tokenize",
        "/detokenize", "/tokenizer_info", "/invocations", "/kv_event_sources", "/generative_scoring",
        "/inference/v1/generate", "/inference/v1/abort_requests", "/v1/chat/completions/render",
        "/v1/completions/render", "/v1/chat/completions/derender", "/v1/completions/derender",
    }  # fmt: skip
    assert wanted <= set(paths)
    assert set(paths["/ping"]) == {"get", "post"}


def test_tokenizer_info_needs_its_flag(server: Server, serve: MakeServer) -> None:
    assert server.http.get("/tokenizer_info").status_code == 404
    info = serve(enable_tokenizer_info_endpoint=True).http.get("/tokenizer_info").json()
    assert (info["vocab_size"], info["eos_token"]) == (258, "</s>")


def test_tokenizer_info_is_the_models_file(serve: MakeServer, tmp_path: Path) -> None:
    settings = {"tokenizer_class": "TinyTokenizer", "padding_side": "left", "chat_template": "the model's"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    server = serve(enable_tokenizer_info_endpoint=True)
    model = dataclasses.replace(server.llm.config.model, tokenizer=str(tmp_path))
    server.llm.config = dataclasses.replace(server.llm.config, model=model)
    info = server.http.get("/tokenizer_info").json()
    assert (info["tokenizer_class"], info["padding_side"], info["vocab_size"]) == ("TinyTokenizer", "left", 258)
    assert info["chat_template"] == server.llm.chat_template.source


def test_without_a_tokenizer_its_routes_say_so(server: Server) -> None:
    server.llm.tokenizer = None  # type: ignore[assignment]
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [1]})):
        answer = server.http.post(path, json=body)
        assert answer.status_code == 400
        assert "--skip-tokenizer-init" in answer.json()["error"]["message"]
    assert server.complete(prompt=[1, 2], echo=True).status_code == 400


def test_the_documentation_shows_the_bodies(server: Server, serve: MakeServer) -> None:
    document = server.http.get("/openapi.json").json()
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ChatCompletionRequest"}
    schemas = document["components"]["schemas"]
    assert {"ChatCompletionRequest", "CompletionRequest", "TokenizeRequest", "StreamOptions"} <= set(schemas)
    assert "temperature" in schemas["ChatCompletionRequest"]["properties"]
    assert server.http.get("/docs").status_code == server.http.get("/redoc").status_code == 200
    page = server.http.get("/docs")
    for shown in ("/v1/chat/completions", "max_completion_tokens", "StreamOptions", "as many requests are open"):
        assert shown in page.text
    assert "<script" not in page.text
    assert "//" not in page.text.replace("http://testserver", "").replace("http://", ""), "loads something"
    hidden = serve(disable_fastapi_docs=True)
    assert {hidden.http.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")} == {404}


def test_metrics_have_fixed_labels(server: Server) -> None:
    server.chat()
    server.http.get("/v1/models/tiny")
    server.http.get("/nowhere/at/all")
    server.http.request("BREW", "/v1/models")
    server.http.get("/health")
    answer = server.http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
    assert 'http_requests_total{handler="/v1/chat/completions",method="POST",status="2xx"} 1.0' in answer.text
    assert 'handler="none",method="GET",status="4xx"} 1.0' in answer.text
    assert 'method="OTHER"' in answer.text
    for absent in ("BREW", "nowhere", "/health", "v1/models/tiny"):
        assert absent not in answer.text
    assert server.http.get("/metrics/anything", follow_redirects=False).status_code == 200


GUARDED = [
    "/v1/models", "/v1/chat/completions", "/tokenize", "/detokenize", "/anything", "/healthy", "/health/", "//health",
    "/load", "/version", "/metrics", "/metrics/anything", "/docs", "/redoc", "/openapi.json",
]  # fmt: skip
OPEN = ["/health", "/ping", "/live", "/ready"]


def test_a_key_guards_all_that_acts(serve: MakeServer) -> None:
    server = serve(api_key=("first", "second"))
    for path in GUARDED:
        for header in (None, "Bearer wrong", "Bearer ", "Basic first", "first"):
            answer = server.http.get(path, headers={"Authorization": header} if header else {})
            assert answer.status_code == 401, (path, header)
            assert answer.json()["error"]["code"] == 401
            assert answer.headers["www-authenticate"] == "Bearer"
    assert {server.http.get(path).status_code for path in OPEN} == {200}
    for header in ("Bearer first", "bearer second", "BEARER  second"):
        assert server.http.get("/v1/models", headers={"Authorization": header}).status_code == 200
    assert server.http.options("/v1/models").status_code == 401


def test_root_path_is_stripped_or_not_and_still_guarded(serve: MakeServer) -> None:
    server = serve(root_path="/proxy", api_key=("k",))
    key = {"Authorization": "Bearer k"}
    for path in ("/proxy/v1/models", "/v1/models"):
        assert server.http.get(path).status_code == 401
        assert server.http.get(path, headers=key).status_code == 200
    assert server.http.get("/proxy/health").status_code == 200
    assert server.http.get("/openapi.json", headers=key).json()["servers"] == [{"url": "/proxy"}]


def test_cors_is_closed_unless_origins_are_named(server: Server, serve: MakeServer) -> None:
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert server.http.options("/v1/completions", headers=preflight).status_code == 405
    answer = serve(allowed_origins=("https://a.example",), api_key=("k",)).http.options(
        "/v1/completions", headers=preflight
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://a.example"


def test_request_ids_come_back_with_the_flag(server: Server, serve: MakeServer) -> None:
    assert "x-request-id" not in server.chat().headers
    server = serve(enable_request_id_headers=True)
    assert server.http.get("/version", headers={"X-Request-Id": "abc"}).headers["x-request-id"] == "abc"
    assert len(server.http.get("/v1/nowhere").headers["x-request-id"]) == 16


def test_ids_of_requests(server: Server) -> None:
    body = server.chat().json()
    assert len(body["id"].removeprefix("chatcmpl-")) == 16
    headers = {"X-Request-Id": "from-header", "X-Vllm-Priority": "-3"}
    message = {"messages": [{"role": "user", "content": "x"}], "request_id": "from-body", "priority": 5}
    answer = server.http.post("/v1/chat/completions", json=message, headers=headers)
    assert answer.json()["id"] == "chatcmpl-from-header"
    assert server.llm.asked[-1].priority == -3
    too_long = server.http.post("/v1/completions", json={"prompt": "x"}, headers={"X-Request-Id": "x" * 200})
    assert (too_long.status_code, too_long.json()["error"]["param"]) == (400, "X-Request-Id")


def test_the_id_in_the_header_is_that_of_the_answer(serve: MakeServer) -> None:
    answer = serve(enable_request_id_headers=True).chat()
    assert answer.json()["id"] == "chatcmpl-" + answer.headers["x-request-id"]


@pytest.mark.parametrize(("flags", "shown"), [({}, 0), ({"enable_log_requests": True}, 1)])
def test_requests_are_logged_on_request_and_prompts_never_at_info(
    serve: MakeServer, flags: dict[str, Any], shown: int, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    import logging

    monkeypatch.setattr(logging.getLogger("kvik"), "propagate", True)
    caplog.set_level(logging.INFO, "kvik")
    serve(**flags).complete(prompt="very private")
    assert sum("Received request cmpl-" in record.getMessage() for record in caplog.records) == shown
    assert "very private" not in caplog.text


def test_answers_are_logged_with_their_flag(
    serve: MakeServer, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    import logging

    monkeypatch.setattr(logging.getLogger("kvik"), "propagate", True)
    caplog.set_level(logging.INFO, "kvik")
    server = serve(enable_log_requests=True, enable_log_outputs=True, max_log_len=3)
    server.complete()
    server.complete(stream=True)
    lines = [record.getMessage() for record in caplog.records if "Generated response" in record.getMessage()]
    assert ["streaming delta" in line for line in lines] == [False, True, True, False]
    assert all("'Hel'" in line or "'lo'" in line for line in lines)
