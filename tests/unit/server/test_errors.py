"""Every status that a client can cause, and the body that comes with it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from kvik.config.limits import RequestLimits
from kvik.errors import EngineCallError, EngineDeadError, EngineRequestError, OverloadedError, QueueFullError
from kvik.server.errors import scrub
from support.live_server import live_server
from support.server_without_engine import Script, Server

MakeServer = Callable[..., Server]


def post(server: Server, content: bytes, content_type: str = "application/json", path: str = "chat/completions") -> Any:
    return server.http.post(f"/v1/{path}", content=content, headers={"content-type": content_type})


def error(answer: Any) -> dict[str, Any]:
    body = answer.json()
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == answer.status_code
    found: dict[str, Any] = body["error"]
    return found


def test_a_missing_field_is_told_as_a_validation_error(server: Server) -> None:
    found = error(post(server, b'{"model": "tiny"}'))
    assert found == {
        "message": "1 validation error:\n  body.messages: Field required",
        "type": "Bad Request",
        "param": "body.messages",
        "code": 400,
    }


def test_at_most_ten_errors_are_listed_and_long_inputs_are_cut(server: Server) -> None:
    names = """n top_p top_k min_p seed min_tokens presence_penalty frequency_penalty priority repetition_penalty
               max_tokens top_logprobs""".split()
    wrong: dict[str, Any] = {name: [1] for name in names}
    content = json.dumps(wrong | {"messages": [5] * 30, "temperature": "x" * 5000}).encode()
    lines = error(post(server, content))["message"].split("\n")
    assert lines[0] == "14 validation errors:"
    assert len(lines) == 12
    assert lines[-1] == "  ... and 4 more"
    assert all(len(line) <= 1000 for line in lines)


@pytest.mark.parametrize(
    ("fields", "place", "says"),
    [
        ({"temperature": "hot"}, "body.temperature", "unable to parse string as a number, got 'hot'"),
        ({"stop": 5}, "body.stop", "valid string; or: Input should be a valid list, got 5"),
        ({"stop": ["a", 5]}, "body.stop", "Input should be a valid string, got ['a', 5]"),
        ({"stop_token_ids": [1, "x"]}, "body.stop_token_ids.1", "got 'x'"),
        ({"logit_bias": {"5": "x"}}, "body.logit_bias.5", "got 'x'"),
        ({"stream_options": {"include_usage": 7}}, "body.stream_options.include_usage", "got 7"),
        ({"messages": ["x"]}, "body.messages.0", "Input should be a valid dictionary, got 'x'"),
        ({"logit_bias": dict.fromkeys(map(str, range(4097)), 1)}, "logit_bias", "at most 4096 entries, got 4097"),
    ],
)
def test_a_validation_error_says_what_is_wrong_in_words(
    server: Server, fields: dict[str, Any], place: str, says: str
) -> None:
    body = {"messages": [{"role": "user", "content": "x"}]} | fields
    found = error(post(server, json.dumps(body).encode()))
    assert found["param"] == place
    assert says in found["message"]


@pytest.mark.parametrize(
    "fields",
    [{"stop_token_ids": ["a"] * 1_000_000}, {"stop": [1] * 1_000_000}, {"messages": [1] * 1_000_000},
     {"logit_bias": dict.fromkeys(map(str, range(200_000)), "x")}, {"temperature": "x" * 10_000_000}],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_a_million_errors_cost_no_more_than_one(server: Server, fields: dict[str, Any]) -> None:
    content = json.dumps({"messages": [{"role": "user", "content": "x"}]} | fields).encode()
    started_s = time.process_time()
    found = error(post(server, content))
    assert time.process_time() - started_s < 1.0, "collecting all errors takes several seconds"
    assert len(found["message"]) < 1500


@pytest.mark.parametrize(
    ("content", "param"),
    [(b"", "body.0"), (b"{", "body.1"), (b'{"a": oops}', "body.6"), (b'{"a": NaN}', "body.6"), (b"\xff", "body.0"),
     (b'{"messages": "\\ud800"}', "body.22"), (b'{"n": 1e400}', "body.12")],
)  # fmt: skip
def test_malformed_json_names_the_offset(server: Server, content: bytes, param: str) -> None:
    found = error(post(server, content))
    assert (found["type"], found["param"]) == ("Bad Request", param)
    assert found["message"].startswith("the body is not valid JSON: ")


@pytest.mark.parametrize("content", [b"null", b"[]", b"3", b'"x"'])
def test_json_that_is_no_object(server: Server, content: bytes) -> None:
    assert error(post(server, content))["param"] == "body"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [65, 5000])
def test_deep_json_is_refused(server: Server, opening: bytes, depth: int) -> None:
    closing = b"]" if opening == b"[" else b"}"
    content = opening * depth + b"1" + closing * depth
    assert post(server, b'{"messages": ' + content + b"}").status_code == 400


def test_many_shallow_brackets_are_no_depth(server: Server) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "x"}]} for _ in range(50)]
    server.llm.chat_template = type(server.llm.chat_template)("short")
    assert server.chat(messages=messages).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/x-www-form-urlencoded"])
def test_another_content_type_is_a_400(server: Server, content_type: str) -> None:
    found = error(post(server, b"{}", content_type))
    assert (found["code"], found["type"], found["param"]) == (400, "Bad Request", None)


def test_a_semantic_error_names_its_parameter_at_the_end(server: Server) -> None:
    found = error(server.chat(temperature=5))
    assert (found["type"], found["param"]) == ("BadRequestError", "temperature")
    assert found["message"].endswith("(parameter=temperature)")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -2}, "top_logprobs"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 201}, "max_tokens"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": "x" * 300}]}, "input_text"),
        ({"n": 2000}, "n"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": "x" * 2000}, "stop"),
        ({"stop_token_ids": [1] * 2000}, "stop_token_ids"),
        ({"logit_bias": {str(i): 1 for i in range(2000)}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"bad_words": ["x"] * 200}, "bad_words"),
        ({"logprob_token_ids": [1]}, "logprob_token_ids"),
        ({"cache_salt": "a/b"}, "cache_salt"),
        ({"request_id": "a\nb"}, "request_id"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
        ({"repetition_detection": {"max_pattern_size": 5000}}, "repetition_detection.max_pattern_size"),
    ],
)  # fmt: skip
def test_semantic_errors_name_what_the_client_said(server: Server, fields: dict[str, Any], param: str) -> None:
    found = error(server.chat(**fields))
    assert (found["code"], found["type"], found["param"]) == (400, "BadRequestError", param)


@pytest.mark.parametrize(
    "field",
    ["kv_transfer_params", "audio", "vllm_xargs", "watermarking"],
)  # fmt: skip
def test_what_is_not_built_yet_is_refused_by_name(server: Server, field: str) -> None:
    found = error(server.chat(**{field: {"type": "something"}}))
    assert found["param"] == field
    assert "not supported yet" in found["message"]


@pytest.mark.parametrize(
    "fields",
    [{"tools": None}, {"tool_choice": "none"}, {"response_format": {"type": "text"}}, {"use_beam_search": False},
     {"best_of": 1}, {"vllm_xargs": {}}, {"modalities": ["text"]}, {"parallel_tool_calls": True}, {"user": "me"}],
)  # fmt: skip
def test_what_asks_for_nothing_special_passes(server: Server, fields: dict[str, Any]) -> None:
    assert server.chat(**fields).status_code == 200


def test_suffix_and_embeddings_are_refused(server: Server) -> None:
    assert error(server.complete(suffix="end"))["param"] == "suffix"
    assert error(server.complete(prompt_embeds="AAAA"))["param"] == "prompt_embeds"


def test_an_unknown_model_is_a_404_that_lists_the_names(server: Server) -> None:
    for answer in (server.chat(model="other"), server.complete(model="other"), server.http.get("/v1/models/other")):
        found = error(answer)
        assert (found["code"], found["type"], found["param"]) == (404, "NotFoundError", "model")
        assert "tiny, alias" in found["message"]


def test_unknown_routes_and_methods_have_both_bodies(server: Server) -> None:
    nowhere = server.http.get("/v1/nowhere")
    assert error(nowhere)["code"] == 404
    assert nowhere.json()["detail"] == "Not Found"
    wrong = server.http.get("/v1/completions")
    assert error(wrong)["code"] == 405
    assert wrong.json()["detail"] == "Method Not Allowed"
    assert wrong.headers["allow"] == "POST"


def test_a_body_beyond_the_limit_is_a_413(server: Server) -> None:
    server.state.limits = type(server.state.limits)(max_body_bytes=100)
    assert error(server.chat(user="x" * 200))["code"] == 413
    chunked = server.http.post(
        "/v1/completions", content=iter([b" " * 60, b" " * 60]), headers={"content-type": "application/json"}
    )
    assert error(chunked)["code"] == 413


@pytest.mark.parametrize(
    ("failure", "status", "type_"),
    [
        (EngineRequestError("bad kernel"), 500, "InternalServerError"),
        (EngineDeadError("gone"), 500, "InternalServerError"),
        (EngineCallError("asleep, for /home/secret is gone"), 500, "InternalServerError"),
        (OverloadedError("going down"), 503, "ServiceUnavailableError"),
        (QueueFullError("full"), 429, "RateLimitError"),
        (KeyError("/home/secret"), 500, "InternalServerError"),
    ],
)
def test_failures_of_the_engine(server: Server, failure: Exception, status: int, type_: str) -> None:
    server.llm.script = Script([], failure=failure)
    answer = server.chat()
    found = error(answer)
    assert (found["code"], found["type"]) == (status, type_)
    assert "secret" not in found["message"]
    assert ("asleep" in found["message"]) == isinstance(failure, EngineCallError)
    assert ("retry-after" in answer.headers) == (status in (429, 503))


def test_finish_reason_error_is_a_500(server: Server) -> None:
    server.llm.script = Script(["x"], finish_reason="error")
    assert error(server.complete())["code"] == 500


def test_an_unknown_field_is_warned_of_once(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("kvik")
    propagates, logger.propagate = logger.propagate, True
    try:
        for _ in range(2):
            assert server.chat(no_such_field_of_this_test=1).status_code == 200
    finally:
        logger.propagate = propagates
    assert sum("no_such_field_of_this_test" in record.getMessage() for record in caplog.records) == 1


def test_scrub_removes_what_is_ours() -> None:
    text = "failed <X object at 0x7fab> in /opt/kvik/core.py\nTraceback (most recent call last):\n  secret"
    assert scrub(text) == "failed <X object> in <path>"
    assert scrub("use https://example.org/a/b") == "use https://example.org/a/b"


def test_a_body_that_never_ends_is_a_408() -> None:
    async def scenario() -> bytes:
        async with live_server() as live:
            live.state.limits = RequestLimits(max_body_read_s=0.01)
            reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
            writer.write(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            answer = await reader.read()
            writer.close()
            return answer

    assert asyncio.run(asyncio.wait_for(scenario(), 10)).startswith(b"HTTP/1.1 408 ")
