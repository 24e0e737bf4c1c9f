"""The OpenAPI document, and the server held to it: no request brings a status that it does not name."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from kvik.server.validation import RequestModel
from support.server_without_engine import make_server

SERVER = make_server(trust_request_chat_template=True, enable_tokenizer_info_endpoint=True)
schema = schemathesis.openapi.from_asgi("/openapi.json", SERVER.http.app)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_route(case: Any) -> None:
    case.call_and_validate(checks=CHECKS)


def document() -> dict[str, Any]:
    found: dict[str, Any] = SERVER.http.get("/openapi.json").json()
    return found


def test_every_body_is_described() -> None:
    posts = {path: found["post"] for path, found in document()["paths"].items() if "post" in found}
    assert all("requestBody" in post for path, post in posts.items() if path.startswith("/v1/chat"))
    assert "messages" in document()["components"]["schemas"]["ChatCompletionRequest"]["properties"]


def test_every_error_is_described() -> None:
    for operations in document()["paths"].values():
        for operation in operations.values():
            assert {"400", "404", "413", "500", "503"} <= operation["responses"].keys()


def test_the_parameters_of_a_path_are_described() -> None:
    (parameter,) = document()["paths"]["/v1/models/{model_id}"]["get"]["parameters"]
    assert (parameter["name"], parameter["in"]) == ("model_id", "path")


def test_streams_are_described_where_there_are_some() -> None:
    paths = document()["paths"]
    streaming = {
        path
        for path, operations in paths.items()
        if "text/event-stream" in operations.get("post", {}).get("responses", {}).get("200", {}).get("content", {})
    }
    assert streaming >= {"/v1/chat/completions", "/v1/completions"}
    assert "/tokenize" not in streaming


def slow_lists(schema: Any) -> list[Any]:
    """Schemas of lists that collect the errors of all their items."""
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    found = [slow for part in parts for slow in slow_lists(part)]
    is_list = isinstance(schema, dict) and schema.get("type") == "list"
    return [*found, schema] if is_list and not schema.get("fail_fast") else found


def test_lists_of_all_bodies_end_at_their_first_wrong_item() -> None:
    models: list[type[RequestModel]] = [RequestModel]
    for model in models:
        models += model.__subclasses__()
        assert not slow_lists(model.__pydantic_core_schema__), model
    assert len(models) > 5
