"""What an error tells: never a path of this machine, a stack, an address of an object, or the prompt."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kvik.errors import EngineDeadError, EngineRequestError
from support.bad_requests import bad_requests
from support.server_without_engine import Script, Server, make_server

PROMPT = "xyzzy-the-secret-words"
LEAKS = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|0x[0-9a-f]{6,}|(?<![\w.])/(?:home|usr|tmp|root|var|etc|work|models|opt)\b"
)
FAILURES = [
    RuntimeError(f"/home/me/kvik/x.py: {PROMPT}"),
    KeyError(PROMPT),
    OSError(2, "No such file", "/home/me/secret"),
    MemoryError(),
    EngineRequestError(
        'at /home/me/kvik/x.py <object at 0x7f0000001234>\nTraceback (most recent call last):\n  File "x"'
    ),
    EngineDeadError("/home/me/kvik died"),
]


def with_prompt(body: Any) -> Any:
    """The body with the prompt in it, where a prompt is not what is wrong."""
    if not isinstance(body, dict):
        return body
    if body.get("messages") == [{"role": "user", "content": "Hi"}]:
        return body | {"messages": [{"role": "user", "content": PROMPT}]}
    return body | {"prompt": PROMPT} if body.get("prompt") == "Hi" else body


def check(text: str) -> None:
    assert PROMPT not in text
    assert not LEAKS.search(text), text[:500]


@pytest.fixture(scope="module")
def served() -> Server:
    return make_server()


def test_bad_requests_tell_nothing(served: Server) -> None:
    statuses: set[int] = set()
    for path, body in bad_requests():
        sent = with_prompt(body)
        content = {"content": sent} if isinstance(sent, bytes) else {"json": sent}
        answer = served.http.post(path, headers={"Content-Type": "application/json"}, **content)
        statuses.add(answer.status_code)
        if answer.status_code >= 400:
            check(answer.text)
    assert {400, 404} <= statuses
    assert max(statuses) < 500


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "BREW"])
@pytest.mark.parametrize("path", ["/nowhere", "/v1/models", "/v1/messages", "/v1/models/none", "/%00"])
def test_wrong_routes_tell_nothing(served: Server, method: str, path: str) -> None:
    answer = served.http.request(method, path, content=PROMPT.encode())
    text = answer.text.replace(path, "")  # they name what was asked for
    assert answer.status_code < 500
    if answer.status_code >= 400:
        check(text)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_failures_of_ours_tell_nothing(failure: Exception, path: str, stream: bool) -> None:
    server = make_server()
    server.llm.script = Script(pieces=("a",), failure=failure)
    prompt = {"/v1/completions": "prompt", "/v1/responses": "input"}.get(path)
    body: dict[str, Any] = {"model": "tiny", "stream": stream, "max_tokens": 5}
    if path == "/v1/responses":
        del body["max_tokens"]
    body |= {prompt: PROMPT} if prompt else {"messages": [{"role": "user", "content": PROMPT}]}
    answer = server.http.post(path, json=body)
    assert answer.status_code == (200 if stream else 500), answer.text
    assert "error" in answer.text
    check(answer.text.replace(f'"input":"{PROMPT}"', ""))


def test_templates_tell_nothing() -> None:
    server = make_server(trust_request_chat_template=True)
    templates = [
        "{{ messages[0].content.nothing.more }}", "{{ 1 / 0 }}", "{% include '/etc/passwd' %}", "{{ self.__class__ }}",
        "{% import '/etc/passwd' as x %}", "{{ namespace.__init__.__globals__ }}", "{{ x() }}", "{% for %}",
        "{{ raise_exception('no') }}",
        "{{ [].append }}{{ ([] | attr('__class__')).x }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(10 ** 9) %}{% endfor %}", "{{ 'x' * 10 ** 12 }}", "{{ cycler }}{{ 5.nothing() }}",
    ]  # fmt: skip
    for template in templates:
        answer = server.http.post(
            "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": PROMPT}], "chat_template": template},
        )
        assert answer.status_code in (200, 400), (template, answer.text)
        if answer.status_code == 400:
            check(answer.text)


def test_a_trusted_template_is_still_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvik.text.chat_template.MAX_RENDER_S", 0.05)
    server = make_server(trust_request_chat_template=True)
    endless = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    doubling = "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
    for template, problem in ((endless, "more than 0.05 seconds"), (doubling, "would make a value of more than")):
        answer = server.chat(chat_template=template)
        assert answer.status_code == 400
        assert problem in answer.json()["error"]["message"]
    assert "chat_template" in make_server().chat(chat_template=endless).json()["error"]["message"]
