"""What truncation leaves out, and what it never does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.server.responses_api.fit import without_oldest
from support.server_without_engine import Server


def message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def post(server: Server, items: list[dict[str, Any]], **fields: Any) -> Any:
    return server.http.post("/v1/responses", json={"input": items, "truncation": "auto"} | fields)


def test_what_fits_is_left_alone(server: Server) -> None:
    assert post(server, [message("user", "a"), message("assistant", "b"), message("user", "c")]).status_code == 200
    assert server.llm.asked[-1].prompt == "<user>a<assistant>b<user>c<assistant>"


def test_the_oldest_items_go_until_the_rest_and_an_answer_fit(server: Server) -> None:
    items = [message("user", str(i) * 40) for i in range(8)]
    assert post(server, items).status_code == 200
    # 46 characters each and 11 at the end; 200 tokens, of which 25 are for the answer
    assert server.llm.asked[-1].prompt == "".join(f"<user>{str(i) * 40}" for i in (5, 6, 7)) + "<assistant>"
    assert post(server, items, max_output_tokens=100).status_code == 200
    assert server.llm.asked[-1].prompt == f"<user>{'7' * 40}<assistant>"


def test_instructions_and_the_systems_messages_stay(server: Server) -> None:
    items = [message("system", "rules"), *(message("user", str(i) * 60) for i in range(5)), message("developer", "dev")]
    assert post(server, [*items, message("user", "end")], instructions="be").status_code == 200
    prompt = server.llm.asked[-1].prompt
    assert prompt.startswith("<system>be<system>rules<user>4")
    assert prompt.endswith("<system>dev<user>end<assistant>")


def test_without_it_the_request_is_refused(server: Server) -> None:
    items = [message("user", "x" * 100)] * 3
    assert post(server, items, truncation="disabled").json()["error"]["param"] == "input"
    assert post(server, items, truncation=None).status_code == 400


def test_an_item_that_does_not_fit_alone_is_refused(server: Server) -> None:
    assert post(server, [message("user", "a"), message("user", "x" * 300)]).json()["error"]["param"] == "input"


def call(call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id}


def output(call_id: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id}


def test_an_output_goes_with_its_call() -> None:
    items = [call("1"), {"type": "message", "role": "user"}, output("1"), {"type": "message", "role": "user"}]
    assert without_oldest(items, 1) == [items[1], items[3]]


def test_the_call_of_the_last_output_stays() -> None:
    items = [{"type": "message", "role": "user"}, call("1"), output("1")]
    assert without_oldest(items, 2) == items[1:]


kinds = st.lists(st.sampled_from(["user", "assistant", "system", "call"]), min_size=1, max_size=12)


@given(kinds, st.integers(0, 14))
def test_never_an_output_without_its_call(names: list[str], num_dropped: int) -> None:
    items: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        pair = [call(str(i)), output(str(i))]
        items += pair if name == "call" else [{"type": "message", "role": name, "id": str(i)}]
    kept = without_oldest(items, num_dropped)
    assert kept[-1] is items[-1]
    assert [item for item in kept if item.get("role") == "system"] == [i for i in items if i.get("role") == "system"]
    calls = {item["call_id"] for item in kept if item["type"] == "function_call"}
    assert all(item["call_id"] in calls for item in kept if item["type"] == "function_call_output")
    assert [item for item in items if item in kept] == kept


def test_far_too_much_is_cut_without_rendering_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[int] = []
    render = server.llm.chat_template.render

    def counting(messages: Any, **options: Any) -> str:
        rendered.append(len(messages))
        return render(messages, **options)

    monkeypatch.setattr(server.llm.chat_template, "render", counting)
    assert post(server, [message("user", "x" * 50)] * 1000).status_code == 200
    assert server.llm.asked[-1].prompt.count("<user>") == 2
    assert max(rendered) <= 4
