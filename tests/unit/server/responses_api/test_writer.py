"""Items and events of every kind of answer, held against the openai package's types."""

from __future__ import annotations

from typing import Any

import pytest

from kvik.errors import EngineRequestError, InvalidRequestError
from support.response_events import checked_events, response_of
from support.server_without_engine import Script

TOOLS = [{"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}}]
PIECES = ("R:hm|", "R:m|C:  |C:The |", 'C:sum|T0:add|A0:{"a"', "|A0::1}|T1:add|A1:{}")


def test_reasoning_text_and_calls_come_as_items_in_their_order(labelled: Any) -> None:
    whole = labelled.post(*PIECES, tools=TOOLS).json()
    streamed = labelled.post(*PIECES, tools=TOOLS, stream=True).text
    events = checked_events(streamed)
    response = response_of(whole)
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call", "function_call"]
    reasoning, message, first, second = whole["output"]
    assert reasoning["content"][0]["text"] == "hmm"
    assert message["content"][0]["text"] == "  The sum"
    assert (first["name"], first["arguments"], second["arguments"]) == ("add", '{"a":1}', "{}")
    assert len({first["call_id"], second["call_id"]}) == 2
    assert [item["id"].split("_")[0] for item in whole["output"]] == ["rs", "msg", "fc", "fc"]

    def said(output: list[dict[str, Any]]) -> list[Any]:
        return [item.get("arguments") or item["content"] for item in output]

    assert said(events[-1]["response"]["output"]) == said(whole["output"])


def test_events_come_in_this_order(labelled: Any) -> None:
    text = labelled.post("R:a|", "C:b|", "T0:add|A0:{}", tools=TOOLS, stream=True).text
    kinds = [event["type"].removeprefix("response.") for event in checked_events(text)]
    assert kinds == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done",
        "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_cut_by_length_is_incomplete(labelled: Any, stream: bool) -> None:
    answer = labelled.post("C:done|T0:add|", 'A0:{"a', finish_reason="length", tools=TOOLS, stream=stream)
    if stream:
        last = checked_events(answer.text)[-1]
        assert last["type"] == "response.incomplete"
        body = last["response"]
    else:
        body = answer.json()
        response_of(body)
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in body["output"]] == ["completed", "incomplete"]
    assert body["completed_at"] is None
    follow_up = labelled.post("C:ok", previous_response_id=body["id"])
    assert follow_up.status_code == 200
    assert "tool_calls" not in labelled.chats[-1].messages[1], "a call that was cut is no part of the conversation"


def test_a_failure_in_a_stream_is_its_last_event(labelled: Any) -> None:
    labelled.server.llm.script = Script(["C:par|", "C:tial|"], failure=EngineRequestError("out of luck"))
    answer = labelled.server.http.post("/v1/responses", json={"input": "Hi", "stream": True})
    last = checked_events(answer.text)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": "server_error", "message": "out of luck"}
    assert last["response"]["output"][0]["status"] == "incomplete"
    stored = labelled.server.http.get(f"/v1/responses/{last['response']['id']}").json()
    assert stored["status"] == "failed"


def test_what_the_request_itself_makes_impossible_is_said_in_its_terms(labelled: Any) -> None:
    labelled.server.llm.script = Script(
        ["C:a|"], failure=InvalidRequestError("response_format is x", param="response_format")
    )
    answer = labelled.server.http.post("/v1/responses", json={"input": "Hi"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "text.format")
    answer = labelled.server.http.post("/v1/responses", json={"input": "Hi", "stream": True})
    error = checked_events(answer.text)[-1]["response"]["error"]
    assert error == {"code": "invalid_prompt", "message": "text.format is x (parameter=text.format)"}


def test_a_failure_of_a_whole_answer_is_a_500(labelled: Any) -> None:
    labelled.server.llm.script = Script(["C:a"], failure=EngineRequestError("out of luck"))
    answer = labelled.server.http.post("/v1/responses", json={"input": "Hi"})
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "out of luck"


def test_an_answer_that_the_server_ends_has_failed(labelled: Any) -> None:
    body = labelled.post("C:a", finish_reason="abort").json()
    assert response_of(body).status == "failed"
    assert "server" in body["error"]["message"]


@pytest.mark.parametrize("fields", [{"max_tool_calls": 1}, {"parallel_tool_calls": False}])
def test_further_calls_are_left_out(labelled: Any, fields: dict[str, Any]) -> None:
    events = checked_events(labelled.post(*PIECES, tools=TOOLS, stream=True, **fields).text)
    calls = [item for item in events[-1]["response"]["output"] if item["type"] == "function_call"]
    assert [call["arguments"] for call in calls] == ['{"a":1}']


def test_reasoning_may_be_left_out(labelled: Any) -> None:
    body = labelled.post("R:hmm|C:yes", include_reasoning=False).json()
    assert [item["type"] for item in body["output"]] == ["message"]
    assert body["usage"]["output_tokens_details"]["reasoning_tokens"] == len("hmm")


def test_usage_has_details(labelled: Any) -> None:
    usage = labelled.post("R:hmm|C:yes").json()["usage"]
    num_prompt = len("<s><user>Hi<assistant>") - len("<s>")
    assert usage["input_tokens"] == num_prompt
    assert usage["output_tokens"] == len("R:hmm|C:yes")
    assert usage["total_tokens"] == num_prompt + len("R:hmm|C:yes")
    assert usage["output_tokens_details"]["reasoning_tokens"] == 3
    assert usage["input_tokens_details"]["cache_write_tokens"] == 16


def test_white_space_alone_is_no_message_beside_others(labelled: Any) -> None:
    body = labelled.post("R:x|C:\n\n|T0:add|A0:{}|C: ", tools=TOOLS).json()
    assert [item["type"] for item in body["output"]] == ["reasoning", "function_call"]


@pytest.mark.parametrize("pieces", [("",), ("C: \n",)])
def test_an_answer_of_nothing_is_an_empty_message(labelled: Any, pieces: tuple[str, ...]) -> None:
    events = checked_events(labelled.post(*pieces, stream=True).text)
    [item] = events[-1]["response"]["output"]
    assert item["content"][0]["text"] == pieces[0].removeprefix("C:")


def test_logprobs_are_those_of_the_message(labelled: Any) -> None:
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    body = labelled.post("R:ab|C:", "c", "d|C:ef|T0:add|A0:{}", tools=TOOLS, **fields).json()
    logprobs = body["output"][1]["content"][0]["logprobs"]
    assert "".join(entry["token"] for entry in logprobs) == "cdef"
    assert all(len(entry["top_logprobs"]) == 2 for entry in logprobs)
    events = checked_events(
        labelled.post("R:ab|C:", "c", "d|C:ef|T0:add|A0:{}", tools=TOOLS, stream=True, **fields).text
    )
    assert events[-1]["response"]["output"][1]["content"][0]["logprobs"] == logprobs


def test_without_being_asked_there_are_no_logprobs(labelled: Any) -> None:
    assert labelled.post("C:a").json()["output"][0]["content"][0]["logprobs"] == []
    assert labelled.server.llm.asked[-1].params.logprobs is None
