"""The small routes hold against any JSON as the large ones do: never a 5xx, always the error body."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.byte_tokenizer import byte_tokenizer
from kvik.engine_client.control import EngineControl
from kvik.sampling_params import SamplingParams
from kvik.server.abort import AbortRequest
from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.completions.protocol import CompletionRequest
from kvik.server.dev.rpc import RpcRequest
from kvik.server.generative_scoring import GenerativeScoringRequest
from kvik.server.scale_out.protocol import GenerateRequest
from support.server_without_engine import make_server

SERVER = make_server(dev_mode=True, enable_scale_out=True, enable_tokenizer_info_endpoint=True)
SERVER.llm.tokenizer = byte_tokenizer()  # type: ignore[assignment]
SERVER.llm.control = EngineControl(SERVER.llm.core, SERVER.llm.abort_all)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**66), 2**66)
    | st.integers(-3, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["inf", "nan", "tokens", "text", "describe", "stop", "token_id:5"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
ids = st.lists(st.integers(0, 300), max_size=5)
sampling = st.dictionaries(st.sampled_from([*SamplingParams.__struct_fields__, "x"]), anything | ids, max_size=3)
choice = st.fixed_dictionaries(
    {"token_ids": ids},
    optional={"index": scalars, "logprobs": anything, "finish_reason": scalars, "stop_reason": scalars},
)
response = st.fixed_dictionaries({"choices": st.lists(choice, max_size=2)}, optional={"prompt_logprobs": anything})


def bodies(model: Any, required: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    known = st.dictionaries(st.sampled_from(sorted(model.model_fields)), anything, max_size=3)
    return st.builds(lambda base, more: base | more, st.fixed_dictionaries(required), known)


def ask(path: str, body: Any) -> None:
    answer = SERVER.http.post(path, json=body)
    assert answer.status_code < 500, (body, answer.text)
    if answer.status_code >= 400:
        found = answer.json()["error"]
        assert found["code"] == answer.status_code
        assert found["message"]
        assert len(answer.content) < 20000


@given(bodies(GenerateRequest, {"token_ids": ids | anything, "sampling_params": sampling}))
@settings(max_examples=150, deadline=None)
def test_generate(body: dict[str, Any]) -> None:
    ask("/inference/v1/generate", body)


@given(bodies(GenerativeScoringRequest, {"query": ids | anything, "items": st.lists(ids | st.text(), max_size=3),
                                        "label_token_ids": ids}))  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_scoring(body: dict[str, Any]) -> None:
    ask("/generative_scoring", body)


@given(bodies(CompletionRequest, {"prompt": st.just("Hi") | ids}), st.lists(response, max_size=2) | anything)
@settings(max_examples=80, deadline=None)
def test_completions_between_text_and_ids(body: dict[str, Any], responses: Any) -> None:
    ask("/v1/completions/render", body)
    ask("/v1/completions/derender", {"request": body, "responses": responses})


@given(bodies(ChatCompletionRequest, {"messages": st.just([{"role": "user", "content": "Hi"}])}), response | anything)
@settings(max_examples=80, deadline=None)
def test_chats_between_text_and_ids(body: dict[str, Any], given_response: Any) -> None:
    ask("/v1/chat/completions/render", body)
    ask("/v1/chat/completions/derender", {"request": body, "response": given_response})
    ask("/invocations", body)


@given(bodies(RpcRequest, {}), bodies(AbortRequest, {}), anything)
@settings(max_examples=80, deadline=None)
def test_calls_and_aborts(call: dict[str, Any], abort: dict[str, Any], other: Any) -> None:
    for body in (call, abort, other):
        ask("/collective_rpc", body)
        ask("/abort_requests", body)
        ask("/inference/v1/abort_requests", body)


@given(
    st.sampled_from(["/sleep", "/wake_up", "/pause", "/resume", "/reset_prefix_cache", "/release_kv_cache_memory"]),
    st.dictionaries(st.sampled_from(["level", "mode", "tags", "clear_cache", "x"]), st.text(max_size=5), max_size=3),
)
@settings(max_examples=80, deadline=None)
def test_queries(path: str, query: dict[str, str]) -> None:
    answer = SERVER.http.post(path, params=query)
    assert answer.status_code in (200, 400)
    SERVER.http.post("/resume")
