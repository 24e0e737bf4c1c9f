"""The way of requests into an engine, and after a crash the question which of them ended it.

Who was in the step that an engine died in is a suspect. In the next engine suspects are computed one at a time, first
of all requests: one that has brought a token since then is cleared, and the next may come. An engine that dies again
has died of the suspect on trial, if there is one. So a request that ends engines is found at the second one, and those
that happened to run beside it go on.

Knows request ids and messages; no process, no text and no stream.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable

from kvik.messages import NewRequest, StepOutputs
from kvik.wire.pulse import PulseReading, Stage

MOST_CRASHES = 3
"""A request that is cleared each time, but was there at so many crashes, is not given another engine."""


class Readmission:
    """`submit` for each request; `engine_died`, then `readmit` with all that are open, for each new engine.

    Between the two nothing is sent: what is submitted then is among those that `readmit` gets.
    """

    def __init__(self, send: Callable[[NewRequest], None]) -> None:
        self._send = send
        self._is_closed = False
        self._queue: deque[NewRequest] = deque()
        """Not sent yet: those behind the one on trial."""
        self._on_trial: str | None = None
        self._suspects: set[str] = set()
        self._num_crashes: Counter[str] = Counter()

    @property
    def num_suspects(self) -> int:
        """Requests that are not cleared yet."""
        return len(self._suspects)

    def submit(self, request: NewRequest) -> None:
        """Send a request, now or when all suspects are cleared. Raises what `send` raises."""
        if self._is_closed:
            return
        if self._on_trial is None:
            self._send(request)
        else:
            self._queue.append(request)

    def withdraw(self, request_ids: Iterable[str]) -> None:
        """These requests have ended: they need not be sent any more."""
        if self._queue:
            gone = set(request_ids)
            self._queue = deque(r for r in self._queue if r.request_id not in gone)

    def engine_died(self, reading: PulseReading, open_ids: Collection[str]) -> list[str]:
        """Request ids that must not be sent again, of those that are open. The others go to `readmit`."""
        self._is_closed = True
        unsent = {request.request_id for request in self._queue}
        present = self._present(reading, [i for i in open_ids if i not in unsent])
        guilty = self._convict(present)
        self._num_crashes = Counter({i: n for i, n in self._num_crashes.items() if i in open_ids})
        self._suspects.intersection_update(open_ids)
        self._suspects.difference_update(guilty)
        self._queue.clear()
        self._on_trial = None
        return guilty

    def readmit(self, requests: Iterable[NewRequest]) -> None:
        """A new engine is there: send it these, suspects first and one at a time."""
        self._is_closed = False
        self._queue = deque(sorted(requests, key=lambda r: r.request_id not in self._suspects))
        self._send_next()

    def observe(self, step: StepOutputs) -> None:
        """See whether a step has cleared the one on trial."""
        if self._on_trial is None:
            return
        for delta in step.deltas:
            if delta.request_id == self._on_trial and (delta.new_token_ids or delta.finish_reason is not None):
                self._suspects.discard(self._on_trial)
                self._send_next()
                return

    def _present(self, reading: PulseReading, sent_ids: Collection[str]) -> set[str]:
        """Who may have ended the engine: the requests of its step; all while it planned one; nobody in between."""
        if reading.stage == Stage.BETWEEN_STEPS:
            return set()
        return set(sent_ids if reading.request_ids is None else reading.request_ids).intersection(sent_ids)

    def _convict(self, present: set[str]) -> list[str]:
        if self._on_trial in present:
            return [self._on_trial]
        self._num_crashes.update(present)
        self._suspects |= present
        return [i for i in present if self._num_crashes[i] >= MOST_CRASHES]

    def _send_next(self) -> None:
        """The next suspect, or all that are left once there is none."""
        self._on_trial = None
        while self._queue and self._on_trial is None:
            request = self._queue.popleft()
            if request.request_id in self._suspects:
                self._on_trial = request.request_id
            self._send(request)
