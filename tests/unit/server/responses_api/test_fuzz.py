"""Whatever a client sends, the answer is never a 5xx, and a whole answer is of the openai package's type."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.server.responses_api.protocol import ResponsesRequest
from support.response_events import checked_events, response_of
from support.server_without_engine import make_server

SERVER = make_server(max_stored_responses=50)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
scalars = st.none() | st.booleans() | st.integers(-3, 300) | st.integers(-(2**66), 2**66) | text
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6
)


def some_of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these fields, now and then of any other kind."""
    return st.fixed_dictionaries({}, optional={name: values | anything for name, values in fields.items()})


part = some_of(type=st.sampled_from(["input_text", "output_text", "refusal", "text"]), text=text, refusal=text)
item = some_of(
    type=st.sampled_from(["message", "function_call", "function_call_output", "reasoning", "item_reference"]),
    role=st.sampled_from(["user", "assistant", "developer", "system"]),
    content=text | st.lists(part, max_size=3),
    call_id=st.sampled_from(["a", "b"]),
    name=text,
    arguments=st.sampled_from(["{}", '{"a":1}', "", "["]),
    output=text | st.lists(part, max_size=2),
    summary=st.lists(part, max_size=2),
)
tool = some_of(type=st.just("function"), name=text, parameters=st.just({"type": "object"}), strict=st.booleans())
known = dict.fromkeys(ResponsesRequest.model_fields, anything) | {
    "input": text | st.lists(item, max_size=4),
    "tools": st.lists(tool, max_size=2),
    "text": some_of(format=some_of(type=st.sampled_from(["text", "json_object", "json_schema"]), name=text)),
    "truncation": st.sampled_from(["auto", "disabled"]),
    "stream": st.booleans(),
}


@given(st.dictionaries(st.sampled_from(sorted(known)), st.none(), max_size=4), st.data())
@settings(max_examples=250, deadline=None)
def test_any_body(names: dict[str, None], data: st.DataObject) -> None:
    body = {"input": "Hi"} | {name: data.draw(known[name] | anything) for name in names}
    answer = SERVER.http.post("/v1/responses", json=body)
    assert answer.status_code < 500, (body, answer.text)
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["code"] == answer.status_code
        assert error["message"]
        assert len(answer.content) < 20_000
    elif answer.headers["content-type"] == "application/json":
        response_of(answer.json())
    elif not body.get("background"):
        checked_events(answer.text)
