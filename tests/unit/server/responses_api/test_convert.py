"""Errors of chat completions and of the engine, told in the terms of this API."""

from __future__ import annotations

import pytest

from kvik.errors import InvalidRequestError
from kvik.server.responses_api.convert import in_own_terms


@pytest.mark.parametrize(
    ("param", "own"),
    [
        ("messages.3.content", "input"),
        ("input_tokens", "input"),
        ("max_tokens", "max_output_tokens"),
        ("logprobs", "top_logprobs"),
        ("response_format.json_schema", "text.format.json_schema"),
        ("tools.1.function.name", "tools.1.name"),
        ("tools.1.function", "tools.1"),
        ("tools", "tools"),
        ("temperature", "temperature"),
        (None, None),
    ],
)
def test_the_field_is_the_one_that_the_client_sent(param: str | None, own: str | None) -> None:
    error = in_own_terms(InvalidRequestError(f"{param} is wrong", param=param))
    assert error.param == own
    assert error.message.split(" ")[0].startswith(own or "None")
