"""Whatever JSON a client sends, the answer is never a 5xx, and every error has the error body."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.completions.protocol import CompletionRequest
from kvik.server.messages_api.protocol import CountTokensRequest, MessagesRequest
from kvik.server.tokenize import DetokenizeRequest, TokenizeRequest
from support.server_without_engine import make_server

SERVER = make_server(trust_request_chat_template=True)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**66), 2**66)
    | st.integers(-3, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["inf", "nan", "-1", "1e999", "left", "none", "auto", "user", "assistant"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
part = st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=5)}) | anything
message = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=5)}) | (
    st.fixed_dictionaries({"role": scalars, "content": st.lists(part, max_size=3) | anything}) | anything
)
messages = st.lists(message, max_size=3) | anything
good_message = [{"role": "user", "content": "Hi"}]


def bodies(model: Any, required: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies with some of the fields of a schema, most of them with a value of any kind."""
    names = sorted(model.model_fields)
    known = st.dictionaries(st.sampled_from(names), anything, max_size=4)
    return st.builds(lambda base, more: base | more, st.fixed_dictionaries(required), known)


def ask(path: str, body: Any) -> None:
    answer = SERVER.http.post(path, json=body)
    assert answer.status_code < 500, (body, answer.text)
    if answer.status_code >= 400:
        found = answer.json()["error"]
        assert found["code"] == answer.status_code
        assert isinstance(found["message"], str)
        assert found["message"]


@given(bodies(ChatCompletionRequest, {"messages": st.just(good_message) | messages}))
@settings(max_examples=150, deadline=None)
def test_chat(body: dict[str, Any]) -> None:
    ask("/v1/chat/completions", body)


@given(bodies(CompletionRequest, {"prompt": st.just("Hi") | st.just([1, 2]) | anything}))
@settings(max_examples=150, deadline=None)
def test_completions(body: dict[str, Any]) -> None:
    ask("/v1/completions", body)


@given(bodies(TokenizeRequest, {}))
@settings(max_examples=50, deadline=None)
def test_tokenize(body: dict[str, Any]) -> None:
    ask("/tokenize", body)


@given(bodies(DetokenizeRequest, {}))
@settings(max_examples=30, deadline=None)
def test_detokenize(body: dict[str, Any]) -> None:
    ask("/detokenize", body)


@given(st.binary(max_size=60))
@settings(max_examples=50, deadline=None)
def test_any_bytes(content: bytes) -> None:
    answer = SERVER.http.post("/v1/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400


@pytest.mark.parametrize("value", [10**25, -(10**25), 2**63])
@pytest.mark.parametrize("field", ["n", "seed", "max_tokens", "priority", "top_k", "min_tokens", "prompt_logprobs"])
def test_giant_integers(field: str, value: int) -> None:
    assert SERVER.complete(**{field: value}).status_code == 400


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_messages(path: str, data: st.DataObject) -> None:
    model = MessagesRequest if path == "/v1/messages" else CountTokensRequest
    required = {"model": st.just("tiny"), "max_tokens": st.just(9), "messages": st.just(good_message) | messages}
    answer = SERVER.http.post(path, json=data.draw(bodies(model, required)))
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["type"] == "error"
        assert answer.json()["error"]["message"]


@given(bodies(ChatCompletionRequest, {"messages": st.lists(st.just(good_message) | messages, max_size=3)}))
@settings(max_examples=100, deadline=None)
def test_batches_of_chats(body: dict[str, Any]) -> None:
    ask("/v1/chat/completions/batch", body)
