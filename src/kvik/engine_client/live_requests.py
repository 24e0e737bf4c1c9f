"""What a person may see of the requests that are open: where each is, what it waits for, what it holds.

Put together from who knows what: text from the output processor, the queue in front of the engine from its desk, blocks
from the engine itself. Shows no prompt and no answer. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kvik.engine_client.admission.admission import AdmissionDesk
from kvik.errors import EngineDeadError, EngineError
from kvik.text.answer import Answer
from kvik.text.processor import ProcessedRequest

ENGINE_ANSWERS_WITHIN_S = 1.0
"""Between two of its steps; one that takes longer is told of as busy."""

State = Literal["waiting", "prefill", "decode", "paused"]
EngineWord = Literal["answered", "busy", "recovering", "dead"]
"""What the engine had to say when it was asked."""
Told = dict[str, dict[str, Any]]
"""What it says of each of its sequences, by engine id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequest:
    """One sequence; a request with n > 1 has n of them."""

    request_id: str
    """As the client knows it; POST /v1/abort takes it."""
    index: int
    """0 to n - 1."""
    state: State
    waiting_for: str | None
    """A field of `messages.WaitingFor`; None: it does not wait, or for its first turn."""
    position: int | None
    """Sequences that go before it, if it waits in a queue."""
    age_s: float
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    num_blocks: int | None
    """It holds in the KV cache; None: the engine has not said."""
    num_preemptions: int
    priority: int
    lora: str | None
    caller: str | None
    """The name of the key that it came with."""


@dataclass(frozen=True, slots=True)
class LiveReport:
    """All sequences that are open, oldest first."""

    engine: EngineWord
    requests: list[LiveRequest] = field(default_factory=list)


class LiveRequests:
    """Asks around. One per engine client."""

    def __init__(
        self,
        open_answers: Callable[[], Sequence[tuple[ProcessedRequest, Answer]]],
        desk: AdmissionDesk,
        describe: Callable[[], Awaitable[Any]],
        caller_of: Callable[[str], str | None],
    ) -> None:
        """`describe` asks the engine for `Scheduler.describe`; `caller_of` says whose an internal id is."""
        self._open_answers = open_answers
        self._desk = desk
        self._describe = describe
        self._caller_of = caller_of

    async def report(self, *, is_recovering: bool, is_resting: bool) -> LiveReport:
        """`is_resting`: the engine is paused or asleep."""
        engine, known = await self._ask_engine(is_recovering)
        places = self._desk.places()
        num_ahead = sum(one["position"] is not None for one in known.values())
        now_s = time.monotonic()
        requests = [
            self._live(request, answer, known.get(answer.engine_id), places.get(request.internal_id), num_ahead, now_s)
            for request, answer in self._open_answers()
        ]
        if is_resting:
            requests = [_paused(live) for live in requests]
        return LiveReport(engine, requests)

    async def _ask_engine(self, is_recovering: bool) -> tuple[EngineWord, Told]:
        if is_recovering:
            return "recovering", {}
        try:
            told = await asyncio.wait_for(self._describe(), ENGINE_ANSWERS_WITHIN_S)
        except EngineDeadError:
            return "dead", {}
        except (TimeoutError, EngineError):
            return "busy", {}
        running = [one | {"position": None} for one in told["running"]]
        waiting = [one | {"position": i} for i, one in enumerate(told["waiting"])]
        return "answered", {one["request_id"]: one for one in [*running, *waiting]}

    def _live(
        self,
        request: ProcessedRequest,
        answer: Answer,
        told: Mapping[str, Any] | None,
        place: tuple[int, str] | None,
        num_ahead: int,
        now_s: float,
    ) -> LiveRequest:
        sent = request.engine_requests[answer.index]
        times = answer.times
        position, reason = (None, None) if told is None else (told["position"], told["waiting_for"])
        if place is not None:
            position, reason = num_ahead + place[0], place[1]
        return LiveRequest(
            request_id=request.request_id,
            index=answer.index,
            state=_state(answer, told, place is not None),
            waiting_for=reason,
            position=position,
            age_s=round(now_s - times.arrival_s, 3),
            num_prompt_tokens=len(request.prompt_token_ids),
            num_cached_tokens=max(times.num_cached_tokens, told["num_cached_tokens"] if told else 0),
            num_output_tokens=answer.num_tokens,
            num_blocks=0 if place is not None else told["num_blocks"] if told else None,
            num_preemptions=max(times.num_preemptions, told["num_preemptions"] if told else 0),
            priority=sent.priority,
            lora=None if sent.lora is None else sent.lora.lora_name,
            caller=self._caller_of(request.internal_id) or None,
        )


def _state(answer: Answer, told: Mapping[str, Any] | None, is_at_desk: bool) -> State:
    if is_at_desk or (told is not None and told["position"] is not None):
        return "waiting"
    if answer.num_tokens:
        return "decode"
    return "prefill" if told is not None or answer.times.scheduled_s else "waiting"


def _paused(live: LiveRequest) -> LiveRequest:
    return replace(live, state="paused")
