"""When the time of an open request is over. Knows asyncio's clock; no engine and no text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from kvik.engine_client.admission.admission import AdmissionDesk
from kvik.engine_client.admission.ticket import Ticket
from kvik.errors import DeadlineExceededError, RequestError


class RequestTimers:
    """`start` for each request that was submitted, `stop` at its end. Requests without limits cost nothing."""

    def __init__(self, desk: AdmissionDesk, end: Callable[[str, RequestError], None], queue_timeout_s: float) -> None:
        """`end` ends the request of an internal id with an error; `queue_timeout_s`: 0 is no limit."""
        self._desk = desk
        self._end = end
        self._queue_timeout_s = queue_timeout_s
        self._timers: dict[str, list[asyncio.TimerHandle]] = {}

    def start(self, internal_id: str, ticket: Ticket) -> None:
        loop = asyncio.get_running_loop()
        timers = []
        if ticket.deadline_s is not None:
            left_s = max(0.0, ticket.deadline_s - time.monotonic())
            timers.append(loop.call_later(left_s, self._reach_deadline, internal_id))
        if self._queue_timeout_s and self._desk.holds(internal_id):
            timers.append(loop.call_later(self._queue_timeout_s, self._reach_queue_timeout, internal_id))
        if timers:
            self._timers[internal_id] = timers

    def stop(self, internal_id: str) -> None:
        """Unknown ids are ignored."""
        for timer in self._timers.pop(internal_id, ()):
            timer.cancel()

    def _reach_deadline(self, internal_id: str) -> None:
        if self._desk.holds(internal_id):
            text = "the request still waited for the engine when the time that it gives was over (X-Request-Timeout)"
            self._end(internal_id, self._desk.refusal("deadline", text))
        else:
            text = "the time that the request gives was over before its answer was complete (X-Request-Timeout)"
            self._end(internal_id, DeadlineExceededError(text))

    def _reach_queue_timeout(self, internal_id: str) -> None:
        if self._desk.holds(internal_id):
            text = f"the request waited for {self._queue_timeout_s:g} s, as long as --queue-timeout allows"
            self._end(internal_id, self._desk.refusal("queue_timeout", text))
