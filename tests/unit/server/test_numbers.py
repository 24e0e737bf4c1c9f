"""Numbers that are none (NaN, infinity) are refused wherever they come, as literals or as text."""

from __future__ import annotations

import pytest

from support.server_without_engine import Server

FIELDS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
PATHS = {"/v1/chat/completions": '"messages":[{"role":"user","content":"Hi"}]', "/v1/completions": '"prompt":"Hi"'}


def post(server: Server, path: str, more: str) -> tuple[int, str | None]:
    body = f"{{{PATHS[path]},{more}}}"
    answer = server.http.post(path, content=body, headers={"content-type": "application/json"})
    return answer.status_code, answer.json().get("error", {}).get("param")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("name", [*FIELDS, "logit_bias", "chat_template_kwargs"])
def test_literals(server: Server, path: str, literal: str, name: str) -> None:
    value = f'{{"5": {literal}}}' if name in ("logit_bias", "chat_template_kwargs") else literal
    status, param = post(server, path, f'"{name}": {value}')
    assert status == 400
    assert param is not None
    assert param.startswith("body.")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("text", ["NaN", "inf", "-Infinity", "1e999"])
@pytest.mark.parametrize("name", FIELDS)
def test_texts(server: Server, path: str, text: str, name: str) -> None:
    status, param = post(server, path, f'"{name}": "{text}"')
    assert (status, param in (name, f"body.{name}")) == (400, True)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("text", ["NaN", "inf", "-Infinity"])
def test_texts_in_logit_bias(server: Server, path: str, text: str) -> None:
    status, param = post(server, path, f'"logit_bias": {{"5": "{text}"}}')
    assert (status, param in ("logit_bias", "body.logit_bias.5")) == (400, True)


@pytest.mark.parametrize("path", PATHS)
def test_several_greedy_answers(server: Server, path: str) -> None:
    answer = server.http.post(path, json={"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "n": 3,
                                          "temperature": 0})  # fmt: skip
    assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1, 2]
