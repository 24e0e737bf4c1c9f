"""Responses that clients may ask for again, within bounds of number, bytes and age. Knows neither engine nor HTTP.

What is kept lies in this process's memory and ends with it. Bounds are shared; responses are their owner's alone, and
each owner has ids of its own (`OwnResponses`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvik.server.responses import encode
from kvik.server.responses_api.errors import TooManyResponsesError, UnknownResponseError
from kvik.server.responses_api.events import EventLog
from kvik.server.responses_api.input_items import Item
from kvik.server.responses_api.run import ResponseRun


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreLimits:
    """What the store may hold. The oldest responses go first."""

    max_responses: int = 1000
    """0: nothing is stored."""
    max_bytes: int = 256 << 20
    """Of JSON: items, response objects and events. A conversation counts in each response that holds it."""
    max_age_s: float = 86400.0
    max_background: int = 64
    """Responses that are made in the background at a time."""


@dataclass(slots=True)
class StoredResponse:
    """A response and the conversation before it."""

    owner: str
    id: str
    earlier: list[Item]
    """Items of the conversation before this request."""
    input: list[Item]
    """Items of this request."""
    body: dict[str, Any]
    """The response object; of one that runs, as it was at the start."""
    created_s: float
    events: EventLog | None = None
    """Where it was made with events."""
    run: ResponseRun | None = None
    """While it is made in the background."""
    num_bytes: int = 0
    """0 while it is made."""

    @property
    def key(self) -> tuple[str, str]:
        return self.owner, self.id

    @property
    def conversation(self) -> list[Item]:
        """All items up to here. A call that was cut is left out: its arguments are no JSON."""
        output = self.current_body()["output"]
        return [
            *self.earlier,
            *self.input,
            *(item for item in output if not (item["type"] == "function_call" and item["status"] != "completed")),
        ]

    def current_body(self) -> dict[str, Any]:
        return self.body if self.run is None else self.run.writer.body()


@dataclass(slots=True)
class ResponseStore:
    """Responses of all owners, oldest first."""

    limits: StoreLimits = field(default_factory=StoreLimits)
    clock: Callable[[], float] = time.monotonic
    num_bytes: int = 0
    """Of what is complete."""
    _responses: dict[tuple[str, str], StoredResponse] = field(default_factory=dict)
    """By owner and id."""
    _items: dict[tuple[str, str], Item] = field(default_factory=dict)
    """By owner and id; those that came with a request or were made for it."""

    def __len__(self) -> int:
        return len(self._responses)

    @property
    def keeps(self) -> bool:
        """False where the operator wants nothing stored."""
        return self.limits.max_responses > 0

    def of(self, owner: str) -> OwnResponses:
        """What `owner` sees of it."""
        return OwnResponses(self, owner)

    def find(self, owner: str, response_id: str) -> StoredResponse | None:
        """None for what was never stored or is not any more."""
        self._evict()
        return self._responses.get((owner, response_id))

    def find_item(self, owner: str, item_id: str) -> Item | None:
        """The item of a stored response, as input or output."""
        self._evict()
        return self._items.get((owner, item_id))

    def check_room_in_background(self) -> None:
        """Raises `TooManyResponsesError` where no more may run."""
        num_running = sum(response.run is not None for response in self._responses.values())
        if num_running >= self.limits.max_background:
            raise TooManyResponsesError(
                f"{num_running} responses are being made in the background, and that is as many as may be "
                "(--max-background-responses); try again when one of them has ended"
            )
        if self._num_running_bytes() > self.limits.max_bytes:
            raise TooManyResponsesError(
                "the responses that are being made in the background fill the store (--max-stored-responses-bytes); "
                "try again when one of them has ended"
            )

    def add(self, response: StoredResponse) -> None:
        """Keep a response; one that has a `run` is complete when `finish` is told so, and stays until then."""
        if response.key in self._responses:  # two requests chose one id at a time: the first one has it
            return
        self._responses[response.key] = response
        if response.run is None:
            self._account(response)
        self._evict()

    def finish(self, response: StoredResponse) -> None:
        """What ran has ended; nothing to do if it was deleted meanwhile."""
        response.body = response.current_body()
        response.run = None
        if self._responses.get(response.key) is response:
            self._account(response)
            self._evict()

    def delete(self, response: StoredResponse) -> None:
        """Forget it and its items, if it is there. What runs is not stopped by this."""
        if self._responses.get(response.key) is not response:
            return
        del self._responses[response.key]
        self.num_bytes -= response.num_bytes
        for item in (*response.input, *response.body["output"]):
            self._items.pop((response.owner, item["id"]), None)

    def _account(self, response: StoredResponse) -> None:
        for item in (*response.input, *response.body["output"]):
            self._items.setdefault((response.owner, item["id"]), item)
        response.num_bytes = len(encode([response.earlier, response.input, response.body]))
        response.num_bytes += response.events.num_bytes if response.events else 0
        self.num_bytes += response.num_bytes

    def _evict(self) -> None:
        """Forget what is too old, and the oldest of what is too much; never what still runs."""
        too_old_s = self.clock() - self.limits.max_age_s
        max_bytes = self.limits.max_bytes - self._num_running_bytes()
        for response in list(self._responses.values()):
            is_over = len(self._responses) > self.limits.max_responses or self.num_bytes > max_bytes
            if not is_over and response.created_s >= too_old_s:
                return
            if response.run is None:
                self.delete(response)

    def _num_running_bytes(self) -> int:
        """Of the events of what runs; the rest of it is counted when it has ended."""
        running = (response.events for response in self._responses.values() if response.run is not None)
        return sum(events.num_bytes for events in running if events is not None)


@dataclass(frozen=True, slots=True)
class OwnResponses:
    """The store as one owner sees it: others' responses and items are not there."""

    store: ResponseStore
    owner: str

    def get(self, response_id: str, param: str = "response_id") -> StoredResponse:
        """Raises `UnknownResponseError`, naming `param`, for what is not stored, or for somebody else."""
        found = self.store.find(self.owner, response_id)
        if found is None:
            raise UnknownResponseError(
                f"no response with the id {response_id[:100]!r} is stored here; it may have been deleted, or made room "
                "for newer ones",
                param=param,
            )
        return found

    def __contains__(self, response_id: str) -> bool:
        return self.store.find(self.owner, response_id) is not None

    def find_item(self, item_id: str) -> Item | None:
        """The item of a stored response, as input or output."""
        return self.store.find_item(self.owner, item_id)
