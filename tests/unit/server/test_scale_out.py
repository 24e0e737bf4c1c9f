"""Token ids in and out, and the two ways between them and text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.config.limits import RequestLimits
from kvik.sampling_params import SamplingParams
from kvik.server.scale_out.protocol import GenerateRequest, read_sampling_params, sampling_params_as_given
from support.server_without_engine import Server, events_of

GENERATE = "/inference/v1/generate"
PATHS = (
    GENERATE,
    "/inference/v1/abort_requests",
    "/v1/chat/completions/render",
    "/v1/completions/render",
    "/v1/chat/completions/derender",
    "/v1/completions/derender",
)


@pytest.fixture
def out(serve: Callable[..., Server]) -> Server:
    return serve(enable_scale_out=True)


def post(server: Server, path: str = GENERATE, **body: Any) -> Any:
    return server.http.post(path, json=body)


def test_off_it_is_a_403(server: Server) -> None:
    for path in PATHS:
        answer = post(server, path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (403, "PermissionDeniedError")
        assert "--enable-scale-out" in answer.json()["error"]["message"]


def test_tokens_only_has_no_routes_of_text(serve: Callable[..., Server]) -> None:
    server = serve(tokens_only=True)
    assert post(server, token_ids=[72]).status_code == 200
    for path in ("/v1/chat/completions", "/v1/completions", "/invocations", "/generative_scoring"):
        assert post(server, path, prompt="Hi").status_code == 404


def test_ids_in_ids_out(out: Server) -> None:
    body = post(out, token_ids=[72, 105], request_id="mine", sampling_params={"temperature": 0, "n": 2}).json()
    assert body["request_id"] == "mine"
    assert [c["token_ids"] for c in body["choices"]] == [list(b"Hello")] * 2
    assert [(c["index"], c["text"], c["finish_reason"]) for c in body["choices"]] == [
        (0, None, "stop"),
        (1, None, "stop"),
    ]
    assert (body["prompt_token_ids"], body["usage"]["prompt_tokens"]) == (None, 2)
    (asked,) = out.llm.asked
    assert (asked.prompt, asked.params.detokenize, asked.params.max_tokens) == ([72, 105], False, 198)


def test_text_out(out: Server) -> None:
    body = post(out, token_ids=[72], output_mode="text").json()
    assert (body["choices"][0]["text"], body["choices"][0]["token_ids"]) == ("Hello", None)
    body = post(out, token_ids=[72], output_mode="text", return_token_ids=True).json()
    assert (body["choices"][0]["token_ids"], body["prompt_token_ids"]) == (list(b"Hello"), [72])
    assert out.llm.asked[0].params.detokenize is True


def test_stop_strings_need_the_text_whatever_comes_out(out: Server) -> None:
    post(out, token_ids=[72], sampling_params={"stop": ["x"]})
    assert out.llm.asked[0].params.detokenize is True


def test_a_stream(out: Server) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    answer = post(out, token_ids=[72], stream=True, stream_options=options, return_token_ids=True)
    *chunks, usage, done = events_of(answer.text)
    assert done == "[DONE]"
    found = [json.loads(chunk) for chunk in chunks]
    assert [c["choices"][0]["token_ids"] for c in found] == [list(b"Hel"), list(b"lo")]
    assert [c["choices"][0]["finish_reason"] for c in found] == [None, "stop"]
    assert [c["usage"]["completion_tokens"] for c in found] == [3, 5]
    assert found[0]["prompt_token_ids"] == [72]
    assert json.loads(usage)["usage"] == {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}


def test_logprobs_name_ids(out: Server) -> None:
    out.llm.script.pieces = ("H",)
    body = post(out, token_ids=[72], sampling_params={"logprobs": 2}).json()
    (entry,) = body["choices"][0]["logprobs"]["content"]
    assert (entry["token"], [e["token"] for e in entry["top_logprobs"]]) == (
        "token_id:72",
        ["token_id:72", "token_id:97"],
    )


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"token_ids": []}, "body.token_ids"),
        ({"token_ids": [-1]}, "body.token_ids.0"),
        ({"token_ids": [258]}, "prompt"),
        ({"token_ids": [1] * 201}, "input_tokens"),
        ({"token_ids": "a"}, "body.token_ids"),
        ({"features": {}}, "features"),
        ({"kv_transfer_params": {"a": 1}}, "kv_transfer_params"),
        ({"stream_options": {}}, "stream_options"),
        ({"output_mode": "both"}, "body.output_mode"),
        ({"sampling_params": {"temprature": 1}}, "sampling_params.temprature"),
        ({"sampling_params": {"output_kind": 1}}, "sampling_params.output_kind"),
        ({"sampling_params": {"top_k": "7"}}, "sampling_params.top_k"),
        ({"sampling_params": {"top_k": -2}}, "sampling_params.top_k"),
        ({"sampling_params": {"stop": ["a"] * 5}}, "sampling_params.stop"),
        ({"sampling_params": {"logit_bias": {"x": 1}}}, "sampling_params.logit_bias"),
        ({"sampling_params": {"logit_bias": {"999": 1}}}, "sampling_params.logit_bias"),
        ({"sampling_params": {"max_tokens": 999}}, "sampling_params.max_tokens"),
        ({"sampling_params": {"stop_token_ids": [1, None]}}, "sampling_params.stop_token_ids"),
        ({"sampling_params": []}, "body.sampling_params"),
    ],
)
def test_what_is_refused(out: Server, more: dict[str, Any], param: str) -> None:
    answer = post(out, **{"token_ids": [72]} | more)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert out.llm.asked == []


def test_ending_requests(out: Server) -> None:
    assert post(out, "/inference/v1/abort_requests", request_ids=["a"]).json() == {"status": "aborted", "aborted": 1}
    assert out.llm.aborted == ["a"]


# --- render and derender ------------------------------------------------------------------------------


def test_a_rendered_chat_runs_as_the_chat_would(out: Server) -> None:
    more = {"temperature": 0.5, "seed": 3, "max_tokens": 7, "stop": ["zz"], "logit_bias": {"5": 1.5}, "cache_salt": "s"}
    rendered = post(out, "/v1/chat/completions/render", messages=[{"role": "user", "content": "Hi"}], **more).json()
    assert bytes(rendered["token_ids"]) == b"<user>Hi<assistant>"
    assert out.llm.asked == []
    assert out.http.post(GENERATE, json=rendered).status_code == 200
    assert out.chat(**more).status_code == 200
    through, direct = out.llm.asked
    assert through.params == direct.params
    assert through.cache_salt == direct.cache_salt
    assert through.prompt == list(direct.prompt.encode())  # type: ignore[union-attr]


def test_rendered_completions(out: Server) -> None:
    bodies = post(out, "/v1/completions/render", prompt=["Hi", "You"], max_tokens=16, request_id="r").json()
    assert [body["token_ids"] for body in bodies] == [[256, *b"Hi"], [256, *b"You"]]
    assert [body["request_id"] for body in bodies] == ["cmpl-r-0", "cmpl-r-1"]
    assert [body["sampling_params"]["max_tokens"] for body in bodies] == [16, 16]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"messages": []}, "messages"),
        ("chat/completions", {"messages": [{"role": "user", "content": "x" * 400}]}, "input_text"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 500},
            "max_completion_tokens",
        ),
        ("completions", {"prompt": []}, "prompt"),
        ("completions", {"prompt": "a", "temperature": 9}, "temperature"),
    ],
)
def test_what_cannot_be_rendered(out: Server, path: str, body: dict[str, Any], param: str) -> None:
    answer = post(out, f"/v1/{path}/render", **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@given(
    st.builds(
        SamplingParams,
        n=st.integers(1, 5),
        temperature=st.floats(0, 2),
        top_k=st.integers(-1, 50),
        top_p=st.floats(0.01, 1),
        max_tokens=st.none() | st.integers(1, 100),
        seed=st.none() | st.integers(-(2**63), 2**63 - 1),
        stop=st.lists(st.text(min_size=1), max_size=4),
        logprobs=st.none() | st.integers(-1, 20),
        logit_bias=st.none() | st.dictionaries(st.integers(0, 10**6), st.floats(-100, 100), max_size=4),
        allowed_token_ids=st.none() | st.lists(st.integers(0, 99), min_size=1, max_size=3),
    )
)
def test_parameters_survive_the_trip(params: SamplingParams) -> None:
    sent = msgspec.json.decode(msgspec.json.encode(sampling_params_as_given(params)))
    body = GenerateRequest(token_ids=[1], sampling_params=sent, output_mode="text")  # type: ignore[call-arg]
    read = read_sampling_params(body, RequestLimits())
    assert msgspec.structs.replace(read, output_kind=params.output_kind) == params


def test_tokenized_prompts_keep_their_text(out: Server) -> None:
    assert out.complete(prompt=["Hi", "You"], echo=True, max_tokens=5).json()["choices"][1]["text"] == "YouHello"
