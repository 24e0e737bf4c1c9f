"""The server with keys, held to its OpenAPI document: without one nothing but probes answers."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from fakes.byte_tokenizer import byte_tokenizer
from kvik.server.access.scopes import need_of
from support.server_without_engine import Server, make_server

KEY = "sesame"
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]


def make_keyed() -> Server:
    """With all routes there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KVIK_ALLOW_RUNTIME_LORA_UPDATING", "1")
        server = make_server(
            api_key=(KEY,), dev_mode=True, enable_scale_out=True, enable_tokenizer_info_endpoint=True,
            trust_request_chat_template=True,
        )  # fmt: skip
    server.llm.tokenizer = byte_tokenizer()  # type: ignore[assignment]
    return server


schema = schemathesis.openapi.from_asgi("/openapi.json", make_keyed().http.app, headers={"x-api-key": KEY})


@schema.parametrize()
@settings(max_examples=1, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_route(case: Any) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"x-api-key": ""}):
        status = case.call(headers=headers).status_code
        assert status == 401 or need_of(case.operation.path) == "open", (case.method, case.path, status)
    case.call_and_validate(checks=CHECKS, headers={"x-api-key": KEY})
