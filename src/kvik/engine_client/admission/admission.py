"""The desk in front of the engine: who is let in, who waits, and who is told at once that it has no use to wait.

A request that the engine has room for passes straight through. Knows no HTTP, no text, no task and no timer: it is told
what happens, and when to let in who may (`release`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

from msgspec.structs import replace

from kvik.engine_client.admission.fair_queue import FairQueue, Waiting
from kvik.engine_client.admission.rate import Flood, Mean, Throughput, retry_after
from kvik.engine_client.admission.ticket import Ticket, WaitReason
from kvik.engine_client.admission.window import EngineWindow
from kvik.errors import EngineDeadError, QueueFullError
from kvik.messages import NewRequest, SchedulerStats, StepOutputs, WaitingFor

OWNER_MEMORY_S = 600.0
"""Who has not been seen for so long needs no slot kept."""
MOST_OWNERS = 1024
"""That are remembered: a header's values are the clients' to choose."""
FIRST_GUESS_TOKENS = 128.0
"""Of an answer, before there were any."""
SAFETY = 1.25
"""What a wait and an answer are taken to need, in terms of what is expected: a mean is missed by half of them."""
SHORTEST_JUDGED_S = 0.1
"""Forecasts of shorter waits say nothing about how good forecasts are."""


@dataclass(frozen=True, kw_only=True)
class QueueLimits:
    """0: no limit."""

    max_requests: int = 0
    max_tokens: int = 0
    """Of waiting prompts."""


@dataclass(slots=True)
class _Request:
    internal_id: str
    sequences: list[NewRequest]
    num_prompt_tokens: int
    num_answer_tokens: int
    """Expected, of all answers."""
    came_s: float = 0.0
    forecast_s: float | None = None
    """The wait that was measured to be ahead of it; None: nothing was measured."""


@dataclass(slots=True)
class _Running:
    """A sequence in the engine."""

    released_s: float
    num_tokens: int = 0


class AdmissionDesk:
    """`submit` each request, `observe` each step, `ended` and `withdrawn` as requests end; then, `release`."""

    def __init__(
        self,
        limits: QueueLimits,
        window: EngineWindow,
        send: Callable[[str, list[NewRequest]], None],
        on_refusal: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`send` takes an internal id and its sequences to the engine; `on_refusal` hears of each, with its reason."""
        self._limits = limits
        self._window = window
        self._send = send
        self._on_refusal = on_refusal
        self._clock = clock
        self._queue: FairQueue[_Request] = FairQueue()
        self._waiting: dict[str, Waiting[_Request]] = {}
        """By internal id."""
        self._waiting_sequences: set[str] = set()
        self._running: dict[str, _Running] = {}
        """By the engine's request id."""
        self._inside: dict[str, list[str]] = {}
        """Engine ids by internal id, of what was let in."""
        self._num_waiting_tokens = 0
        self._owners_seen: dict[str, float] = {}
        self._throughput = Throughput()
        self._answer_tokens = Mean(FIRST_GUESS_TOKENS)
        self._s_per_token = Mean()
        """Of an answer, its prompt included, in the engine."""
        self._forecast_error = Mean(1.0)
        """How long requests waited, in terms of their forecasts."""
        self._flood = Flood()
        self._num_arrived = 0
        self._last_step_s: float | None = None
        """The last step that left the engine with all that it may have; None: it could have had more."""

    @property
    def num_waiting(self) -> int:
        """Sequences that the engine has not been given."""
        return len(self._waiting_sequences)

    def add_waiting(self, stats: SchedulerStats) -> SchedulerStats:
        """Who waits here waits as much as who waits in the engine: all of them for what the next in turn lacks."""
        if not self._waiting_sequences:
            return stats
        waiting_for = copy(stats.waiting_for or WaitingFor())
        lack = self._lack_of_next()
        setattr(waiting_for, lack, getattr(waiting_for, lack) + self.num_waiting)
        return replace(stats, num_waiting=stats.num_waiting + self.num_waiting, waiting_for=waiting_for)

    def places(self) -> dict[str, tuple[int, WaitReason]]:
        """Of each request that waits here, by internal id: how many go before it, as far as can be said, and for what
        all of them wait."""
        if not self._waiting:
            return {}
        lack = self._lack_of_next()
        return {waiting.item.internal_id: (i, lack) for i, waiting in enumerate(self._queue.in_turn())}

    def holds(self, internal_id: str) -> bool:
        """Whether the engine has not been given this request."""
        return internal_id in self._waiting

    def holds_sequence(self, engine_id: str) -> bool:
        """Whether the engine has not been given this sequence."""
        return engine_id in self._waiting_sequences

    def check_hope(self, priority: int, ticket: Ticket) -> None:
        """Raise `QueueFullError` for a request that would be refused whatever it is: before it has cost anything.

        In a flood, for one that would be refused if it were as long as others are.
        """
        if ticket.is_continued or not self._waiting:
            return
        self._check_count()
        prompt, answer = self._typical_tokens() if self._flood.is_on(self._clock()) else (0, 0)
        _, cost_ahead = self._queue.ahead_of(ticket.owner, priority, prompt + answer + 1)
        self._check_deadline(self._throughput.time_for(cost_ahead + prompt + answer), answer, ticket)

    def submit(self, internal_id: str, sequences: list[NewRequest], ticket: Ticket) -> None:
        """Let a request in, or have it wait. Raises `QueueFullError`, and what `send` raises."""
        self._see(ticket.owner)
        request = self._request(internal_id, sequences)
        reason = self._reason_to_wait(request, ticket.owner)
        if reason is None:
            ticket.note(0, None)
            self._enter(request, ticket.owner)
            return
        cost = request.num_prompt_tokens + request.num_answer_tokens
        position, cost_ahead = self._queue.ahead_of(ticket.owner, sequences[0].priority, cost)
        request.came_s = self._clock()
        request.forecast_s = self._throughput.time_for(cost_ahead + cost)
        if not ticket.is_continued:
            self._check_limits(request)
            num_answer_tokens = request.num_answer_tokens // len(sequences)
            self._check_deadline(request.forecast_s, num_answer_tokens, ticket)
        ticket.note(position + 1, reason)
        self._wait(request, ticket.owner, cost)

    def release(self) -> None:
        """Let in who may, in turn."""
        while (waiting := self._queue.peek(self._has_room)) is not None:
            if self._window.obstacle(len(waiting.item.sequences), waiting.item.num_prompt_tokens) is not None:
                return
            self._take_out(waiting, is_served=True)
            try:
                self._enter(waiting.item, waiting.owner)
            except EngineDeadError:  # each stream hears of it from whoever reads the engine's answers
                return

    def observe(self, step: StepOutputs) -> None:
        """What a step has brought."""
        num_tokens = 0
        for delta in step.deltas:
            num_tokens += len(delta.new_token_ids)
            running = self._running.get(delta.request_id)
            if running is None:
                continue
            running.num_tokens += len(delta.new_token_ids)
            if delta.new_token_ids or delta.finish_reason is not None:
                num_tokens += self._window.computed(delta.request_id)
            if delta.finish_reason is not None:
                self._leave(delta.request_id)
        self._measure(num_tokens)
        if step.stats is not None:
            self._window.lacks_blocks = _lacks_blocks(step.stats)

    def withdrawn(self, engine_ids: list[str]) -> list[str]:
        """These sequences were ended from outside. Those of them that the engine has, and must be told of."""
        inside = [engine_id for engine_id in engine_ids if self._running.pop(engine_id, None) is not None]
        for engine_id in inside:
            self._window.leave(engine_id)
        return inside

    def ended(self, internal_id: str) -> None:
        """The request is over, wherever it was; unknown ids are ignored."""
        if (waiting := self._waiting.get(internal_id)) is not None:
            self._take_out(waiting, is_served=False)
        self.withdrawn(self._inside.pop(internal_id, []))

    def engine_restarted(self) -> None:
        """Another engine gets what the last one had."""
        self._window.restart()
        self._last_step_s = None

    def retry_after_s(self) -> int:
        """Seconds after which what waits now is done, 1 to 600."""
        return self._throughput.retry_after_s(self._queue.cost)

    # --- inside --------------------------------------------------------------------------------------

    def _typical_tokens(self) -> tuple[int, int]:
        """Of a prompt that waits, and of an answer."""
        return self._num_waiting_tokens // len(self._waiting), int(self._answer_tokens.value or 1)

    def _request(self, internal_id: str, sequences: list[NewRequest]) -> _Request:
        most = sequences[0].sampling_params.max_tokens
        expected = max(1, int(self._answer_tokens.value or 1))
        num_answer_tokens = expected if most is None else min(most, expected)
        return _Request(
            internal_id, sequences, len(sequences[0].prompt_token_ids), num_answer_tokens * len(sequences)
        )  # fmt: skip

    def _reason_to_wait(self, request: _Request, owner: str) -> WaitReason | None:
        obstacle = self._window.obstacle(len(request.sequences), request.num_prompt_tokens)
        obstacle = obstacle or self._window.own_obstacle(owner, len(self._owners_seen))
        if obstacle is None and self._queue.peek(self._has_room) is not None:
            return WaitReason.BUDGET  # those before it come first
        return obstacle

    def _lack_of_next(self) -> WaitReason:
        waiting = self._queue.peek(self._has_room)
        if waiting is None:
            return WaitReason.SLOTS  # each owner has all that one may have
        lack = self._window.obstacle(len(waiting.item.sequences), waiting.item.num_prompt_tokens)
        return lack or WaitReason.BUDGET

    def _has_room(self, owner: str) -> bool:
        return self._window.own_obstacle(owner, len(self._owners_seen)) is None

    def _check_count(self) -> None:
        if self._limits.max_requests and len(self._queue) >= self._limits.max_requests:
            text = f"{len(self._queue)} prompts wait already, as many as --max-queued-requests allows"
            raise self.refusal("max_num_queued_reqs", text)

    def _check_limits(self, request: _Request) -> None:
        self._check_count()
        limits = self._limits
        num_tokens = self._num_waiting_tokens + request.num_prompt_tokens
        if limits.max_tokens and num_tokens > limits.max_tokens and self._waiting:
            text = f"waiting prompts would have {num_tokens} tokens, with at most {limits.max_tokens} allowed"
            raise self.refusal("max_num_queued_tokens", text + " by --max-queued-tokens")

    def _check_deadline(self, forecast_s: float | None, num_answer_tokens: int, ticket: Ticket) -> None:
        """Refuse who would wait for nothing: by what is measured, its answer would come too late."""
        if ticket.deadline_s is None or forecast_s is None:
            return
        wait_s = forecast_s * max(1.0, self._forecast_error.value or 1.0)
        needed_s = SAFETY * (wait_s + num_answer_tokens * (self._s_per_token.value or 0.0))
        late_s = needed_s - (ticket.deadline_s - self._clock())
        if late_s > 0:
            text = f"this request would be answered in about {needed_s:.1f} s, after the time that it gives"
            raise self.refusal("deadline", text, retry_after(late_s))

    def refusal(self, reason: str, problem: str, retry_after_s: int | None = None) -> QueueFullError:
        """The error of a request that is turned away, which is counted."""
        self._on_refusal(reason)
        self._flood.note(self._clock())
        after_s = retry_after_s or self.retry_after_s()
        return QueueFullError(f"{problem}; try again in {after_s} s", retry_after_s=after_s)

    def _wait(self, request: _Request, owner: str, cost: int) -> None:
        self._num_arrived += 1
        priority = request.sequences[0].priority
        waiting = Waiting(owner, priority, self._num_arrived, cost, request)
        self._queue.push(waiting)
        self._waiting[request.internal_id] = waiting
        self._waiting_sequences.update(s.request_id for s in request.sequences)
        self._num_waiting_tokens += request.num_prompt_tokens
        if self._last_step_s is None:
            self._last_step_s = self._clock()

    def _take_out(self, waiting: Waiting[_Request], *, is_served: bool) -> None:
        self._queue.remove(waiting, is_served=is_served)
        request = waiting.item
        del self._waiting[request.internal_id]
        self._waiting_sequences.difference_update(s.request_id for s in request.sequences)
        self._num_waiting_tokens -= request.num_prompt_tokens
        self._judge_forecast(request, is_served)

    def _judge_forecast(self, request: _Request, is_served: bool) -> None:
        """Learn from how long it waited; who left before its turn teaches only that the forecast was too short."""
        if request.forecast_s is None or request.forecast_s < SHORTEST_JUDGED_S:
            return
        error = (self._clock() - request.came_s) / request.forecast_s
        if is_served or error > 1:
            self._forecast_error.record(min(4.0, error))

    def _enter(self, request: _Request, owner: str) -> None:
        ids = [s.request_id for s in request.sequences]
        now_s = self._clock()
        self._window.enter(owner, ids, request.num_prompt_tokens)
        self._inside[request.internal_id] = ids
        self._running.update((i, _Running(now_s)) for i in ids)
        self._send(request.internal_id, request.sequences)

    def _leave(self, engine_id: str) -> None:
        running = self._running.pop(engine_id)
        self._window.leave(engine_id)
        if running.num_tokens:
            self._answer_tokens.record(running.num_tokens)
            self._s_per_token.record((self._clock() - running.released_s) / running.num_tokens)

    def _measure(self, num_tokens: int) -> None:
        """Time counts from one step that left the engine with all that it may have to the next one."""
        now_s = self._clock()
        if self._last_step_s is not None:
            self._throughput.record(num_tokens, now_s - self._last_step_s)
        is_busy = bool(self._waiting) or self._window.obstacle(1, 0) is not None
        self._last_step_s = now_s if is_busy else None

    def _see(self, owner: str) -> None:
        """Remember who there is; the longest unseen comes first in the dict."""
        now_s = self._clock()
        self._owners_seen.pop(owner, None)
        self._owners_seen[owner] = now_s
        oldest = next(iter(self._owners_seen))
        if len(self._owners_seen) > MOST_OWNERS or self._owners_seen[oldest] < now_s - OWNER_MEMORY_S:
            del self._owners_seen[oldest]


def _lacks_blocks(stats: SchedulerStats) -> bool:
    return stats.num_waiting > 0 and stats.kv_cache_usage > 0.8
