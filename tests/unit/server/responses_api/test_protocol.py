"""Every field's wrong value is a 400 that names it; what has no meaning here is refused; the rest acts or is shown."""

from __future__ import annotations

from typing import Any

import pytest

from support.response_events import response_of
from support.server_without_engine import Server


def post(server: Server, **fields: Any) -> Any:
    return server.http.post("/v1/responses", json={"input": "Hi"} | fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", None), ("model", 3), ("instructions", ["x"]), ("previous_response_id", 3), ("store", "x"),
        ("background", "x"), ("stream", "x"), ("stream_options", {"include_obfuscation": False}),
        ("stream_options", 3), ("include", ["everything"]), ("include", "x"), ("max_output_tokens", 0),
        ("max_output_tokens", -1), ("max_output_tokens", "x"), ("max_output_tokens", 10**6), ("max_tool_calls", 0),
        ("max_tool_calls", "x"), ("metadata", {"a": 1}), ("metadata", {str(i): "" for i in range(17)}),
        ("metadata", {"k" * 65: ""}), ("metadata", {"k": "v" * 513}), ("metadata", []), ("parallel_tool_calls", "x"),
        ("reasoning", "high"), ("reasoning", {"effort": "huge"}), ("reasoning", {"summary": "x"}),
        ("include_reasoning", "x"), ("service_tier", "gold"), ("temperature", 3), ("temperature", -1),
        ("temperature", "x"), ("top_p", 0), ("top_p", 1.1), ("text", "x"), ("text", {"verbosity": "loud"}),
        ("tools", "x"), ("tools", {}), ("tool_choice", "x"), ("top_logprobs", -1), ("top_logprobs", 21),
        ("truncation", "middle"), ("user", 3), ("safety_identifier", 3), ("prompt_cache_key", 3),
        ("prompt_cache_retention", "1h"), ("top_k", -2), ("min_p", 2), ("presence_penalty", 3),
        ("frequency_penalty", -3), ("repetition_penalty", 0), ("seed", "x"), ("stop", [""]), ("stop", ["a"] * 5),
        ("stop_token_ids", [-1]), ("ignore_eos", "x"), ("include_stop_str_in_output", "x"),
        ("skip_special_tokens", "x"), ("logit_bias", {"a": 1}), ("logit_bias", {"999999": 1}),
        ("chat_template_kwargs", 3), ("chat_template_kwargs", {"messages": []}), ("priority", "x"),
        ("request_id", "x"), ("request_id", "resp_"), ("request_id", "resp_a/b"), ("request_id", "resp_" + "a" * 60),
        ("cache_salt", ""), ("structured_outputs", 3), ("prompt", {"id": "x"}), ("prompt", ""),
        ("conversation", "conv_1"), ("context_management", [{"type": "compaction"}]), ("moderation", {"model": "x"}),
        ("prompt_cache_options", {"mode": "explicit"}), ("enable_response_messages", True),
        ("previous_input_messages", [{}]), ("media_io_kwargs", {"a": 1}), ("mm_processor_kwargs", {"a": 1}),
        ("kv_transfer_params", {}), ("ec_transfer_params", {"a": 1}), ("watermarking", True), ("vllm_xargs", {"a": 1}),
    ],
)  # fmt: skip
def test_a_wrong_value_is_a_400_that_names_the_field(server: Server, field: str, value: Any) -> None:
    answer = post(server, **{field: value})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert field in error["param"]
    assert field in error["message"]


@pytest.mark.parametrize("body", [{}, [], "x", 3])
def test_a_body_without_input_is_a_400(server: Server, body: Any) -> None:
    assert server.http.post("/v1/responses", json=body).status_code == 400


def test_obfuscation_is_refused_and_its_absence_is_not(server: Server) -> None:
    options = {"include_obfuscation": True}
    assert post(server, stream=True, stream_options=options).json()["error"]["param"].startswith("stream_options")
    assert post(server, stream=True, stream_options={"include_obfuscation": False}).status_code == 200


def test_values_that_ask_for_what_is_so_anyway_are_taken(server: Server) -> None:
    fields = {
        "enable_response_messages": False, "context_management": [], "media_io_kwargs": {}, "vllm_xargs": {},
        "prompt_cache_options": {"mode": "implicit"}, "tools": [], "include": ["reasoning.encrypted_content"],
    }  # fmt: skip
    assert post(server, **fields).status_code == 200


def test_an_unknown_model_is_a_404(server: Server) -> None:
    answer = post(server, model="gpt-9")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "model")


def test_a_conversation_that_does_not_fit_is_a_400_about_input(server: Server) -> None:
    answer = post(server, input="x" * 300)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")


def test_what_was_asked_is_shown(server: Server) -> None:
    asked = {
        "instructions": "be brief", "temperature": 0.5, "top_p": 0.9, "max_tool_calls": 3, "metadata": {"a": "b"},
        "parallel_tool_calls": False, "service_tier": "flex", "truncation": "auto", "user": "me", "store": False,
        "prompt_cache_key": "k", "safety_identifier": "s", "presence_penalty": 0.5, "frequency_penalty": 0.25,
    }  # fmt: skip
    body = post(server, **asked, reasoning={"effort": "low", "summary": "auto"}, max_output_tokens=7).json()
    response_of(body)
    assert {name: body[name] for name in asked} == asked
    assert body["reasoning"] == {"effort": "low", "summary": None}
    assert body["max_output_tokens"] == 7
    assert body["id"].startswith("resp_")
    params = server.llm.asked[-1].params
    assert (params.temperature, params.top_p, params.max_tokens) == (0.5, 0.9, 7)


def test_the_effective_number_of_tokens_is_shown(server: Server) -> None:
    num_prompt = len("<user>Hi<assistant>")
    assert post(server).json()["max_output_tokens"] == 200 - num_prompt
    assert post(server, max_output_tokens=199).json()["max_output_tokens"] == 200 - num_prompt


def test_extras_reach_the_engine(server: Server) -> None:
    fields = {"top_k": 5, "min_p": 0.1, "seed": 3, "stop": ["x"], "logit_bias": {"5": 1}, "cache_salt": "salt",
              "repetition_penalty": 1.5, "ignore_eos": True, "priority": 4}  # fmt: skip
    assert post(server, **fields).status_code == 200
    asked = server.llm.asked[-1]
    assert (asked.params.top_k, asked.params.seed, asked.params.stop) == (5, 3, ["x"])
    assert (asked.cache_salt, asked.priority, asked.params.ignore_eos) == ("salt", 4, True)


def test_the_clients_id_is_taken_once(server: Server) -> None:
    assert post(server, request_id="resp_mine").json()["id"] == "resp_mine"
    assert post(server, request_id="resp_mine").json()["error"]["param"] == "request_id"
    assert server.http.delete("/v1/responses/resp_mine").status_code == 200
    assert post(server, request_id="resp_mine").status_code == 200


def test_the_schema_is_in_the_openapi_document(server: Server) -> None:
    document = server.http.get("/openapi.json").json()
    schema = document["components"]["schemas"]["ResponsesRequest"]
    assert schema["required"] == ["input"]
    kinds = [item["properties"].get("type") for item in schema["properties"]["input"]["anyOf"][1]["items"]["anyOf"]]
    assert {"const": "function_call_output"} in kinds
    parameters = document["paths"]["/v1/responses/{response_id}"]["get"]["parameters"]
    assert {p["name"] for p in parameters} == {"response_id", "stream", "starting_after"}
