"""Bounds of number, bytes and age; what runs stays."""

from __future__ import annotations

from typing import Any

import pytest

from kvik.server.responses_api.errors import TooManyResponsesError, UnknownResponseError
from kvik.server.responses_api.events import EventLog
from kvik.server.responses_api.store import ResponseStore, StoredResponse, StoreLimits


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make_store(**limits: Any) -> tuple[ResponseStore, Clock]:
    clock = Clock()
    return ResponseStore(StoreLimits(**limits), clock), clock


def stored(
    store: ResponseStore, name: str, text: str = "x", run: Any = None, events: EventLog | None = None
) -> StoredResponse:
    items = [{"id": f"msg_{name}", "type": "message", "role": "user", "content": text}]
    response = StoredResponse("me", name, [], items, {"id": name, "output": []}, store.clock(), events, run)
    store.add(response)
    return response


class FakeRun:
    """A run whose writer shows a body."""

    def __init__(self, name: str) -> None:
        self.writer = self
        self._body = {"id": name, "output": []}

    def body(self) -> dict[str, Any]:
        return self._body


def holds(store: ResponseStore, name: str) -> bool:
    try:
        return store.of("me").get(name).id == name
    except UnknownResponseError:
        return False


def test_what_is_not_there_is_a_404_that_names_the_parameter() -> None:
    store, _ = make_store()
    with pytest.raises(UnknownResponseError) as found:
        store.of("me").get("a", "previous_response_id")
    error = found.value
    assert (error.status, error.type, error.param) == (404, "invalid_request_error", "previous_response_id")


def test_the_oldest_go_first_when_there_are_too_many() -> None:
    store, _ = make_store(max_responses=2)
    for name in "abc":
        stored(store, name)
    assert [holds(store, name) for name in "abc"] == [False, True, True]
    assert store.of("me").find_item("msg_a") is None
    assert store.of("me").find_item("msg_c") is not None


def test_the_oldest_go_first_when_they_are_too_large() -> None:
    store, _ = make_store(max_bytes=2000)
    for name in "abc":
        stored(store, name, "x" * 700)
    assert [holds(store, name) for name in "abc"] == [False, True, True]
    assert store.num_bytes <= 2000


def test_what_is_larger_than_the_store_is_not_kept() -> None:
    store, _ = make_store(max_bytes=100)
    stored(store, "a", "x" * 700)
    assert not holds(store, "a")
    assert store.num_bytes == 0


def test_what_is_too_old_goes() -> None:
    store, clock = make_store(max_age_s=10)
    stored(store, "a")
    clock.now_s = 8
    stored(store, "b")
    clock.now_s = 11
    assert [holds(store, name) for name in "ab"] == [False, True]
    assert store.of("me").find_item("msg_a") is None


def test_what_runs_stays_until_it_has_ended() -> None:
    store, _ = make_store(max_responses=1)
    running = stored(store, "a", run=FakeRun("a"))
    stored(store, "b")
    assert [holds(store, name) for name in "ab"] == [True, False]
    store.finish(running)
    stored(store, "c")
    assert [holds(store, name) for name in "ac"] == [False, True]


def test_so_many_run_and_no_more() -> None:
    store, _ = make_store(max_background=1)
    store.check_room_in_background()
    running = stored(store, "a", run=FakeRun("a"))
    with pytest.raises(TooManyResponsesError, match="--max-background-responses") as found:
        store.check_room_in_background()
    assert found.value.status == 429
    store.finish(running)
    store.check_room_in_background()


def test_what_was_deleted_while_it_ran_does_not_come_back() -> None:
    store, _ = make_store()
    running = stored(store, "a", run=FakeRun("a"))
    store.delete(store.of("me").get("a"))
    store.finish(running)
    assert not holds(store, "a")
    assert store.num_bytes == 0


def test_deleting_gives_all_bytes_back() -> None:
    store, _ = make_store()
    stored(store, "a")
    assert store.num_bytes > 0
    store.delete(store.of("me").get("a"))
    assert (store.num_bytes, len(store)) == (0, 0)


def test_the_first_of_two_with_one_id_stays() -> None:
    store, _ = make_store()
    first = stored(store, "a")
    stored(store, "a", "other")
    assert store.of("me").get("a") is first
    assert store.num_bytes == first.num_bytes


def test_events_of_what_runs_count() -> None:
    store, _ = make_store(max_bytes=2000)
    stored(store, "a", "x" * 700)
    events = EventLog(keeps=True)
    stored(store, "b", run=FakeRun("b"), events=events)
    events.emit("x", text="x" * 1500)
    assert [holds(store, name) for name in "ab"] == [False, True]
    events.emit("x", text="x" * 500)
    with pytest.raises(TooManyResponsesError, match="--max-stored-responses-bytes"):
        store.check_room_in_background()
