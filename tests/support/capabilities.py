"""What this build's server can do, for tests of clients that need more than plain conversations."""

from __future__ import annotations

import pytest

from kvik.config.not_yet import NOT_YET
from support.server import KvikServer

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def skip_without_flag(name: str) -> None:
    """Skip the test where the flag is known but its feature is not built."""
    if any(flag.name == name for flag in NOT_YET):
        pytest.skip(f"--{name} is not built yet")


def skip_without_response_format(server: KvikServer) -> None:
    """Skip the test where the server says that it has no structured output yet."""
    asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    body = {"messages": [{"role": "user", "content": "1"}], "response_format": asked, "max_tokens": 16}
    status, answer, _ = server.request("POST", "/v1/chat/completions", body)
    if status == 400 and "not supported yet" in answer["error"]["message"]:
        pytest.skip("response_format is not built yet")
