"""One request inside the engine: its tokens, how far they are computed, and where it stands.

    PREPARING ──> WAITING ──> RUNNING ──> FINISHED_STOPPED | FINISHED_LENGTH_CAPPED | FINISHED_REPETITION
       │             │         │   ▲
       │             │         ▼   │
       │             │       PREEMPTED
       └─────────────┴── any of the four ──> FINISHED_ABORTED | FINISHED_ERROR

Only requests with a grammar are ever PREPARING. Knows no queue and no budget. The scheduler alone writes to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from kvik.blocks import SequenceBlocks
from kvik.blocks.hashing import root_digest
from kvik.errors import EngineError
from kvik.grammar.constraint import Constraint
from kvik.messages import EventKind, FinishReason, LoraRequest, NewRequest, RequestEvent, Resumed
from kvik.sampling_params import SamplingParams
from kvik.scheduler.ahead import runs_ahead
from kvik.step import AdmittedRequest


class RequestStatus(Enum):
    PREPARING = "preparing"
    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    FINISHED_STOPPED = "finished_stopped"
    FINISHED_LENGTH_CAPPED = "finished_length_capped"
    FINISHED_REPETITION = "finished_repetition"
    FINISHED_ABORTED = "finished_aborted"
    FINISHED_ERROR = "finished_error"


FINISH_REASONS = {
    RequestStatus.FINISHED_STOPPED: FinishReason.STOP,
    RequestStatus.FINISHED_LENGTH_CAPPED: FinishReason.LENGTH,
    RequestStatus.FINISHED_REPETITION: FinishReason.REPETITION,
    RequestStatus.FINISHED_ABORTED: FinishReason.ABORT,
    RequestStatus.FINISHED_ERROR: FinishReason.ERROR,
}

_ENDED_FROM_OUTSIDE = {RequestStatus.FINISHED_ABORTED, RequestStatus.FINISHED_ERROR}
_AT_ITS_BEGINNING = Resumed([])
_SUCCESSORS = {
    RequestStatus.PREPARING: {RequestStatus.WAITING} | _ENDED_FROM_OUTSIDE,
    RequestStatus.WAITING: {RequestStatus.RUNNING} | _ENDED_FROM_OUTSIDE,
    RequestStatus.RUNNING: {RequestStatus.PREEMPTED, *FINISH_REASONS},
    RequestStatus.PREEMPTED: {RequestStatus.RUNNING} | _ENDED_FROM_OUTSIDE,
}


@dataclass(slots=True, eq=False)
class Request:
    """Invariant: num_computed_tokens < num_tokens + num_awaited_tokens."""

    request_id: str
    token_ids: list[int]
    """Prompt, then what was generated."""
    num_prompt_tokens: int
    sampling_params: SamplingParams
    eos_token_id: int | None
    stop_token_ids: frozenset[int]
    max_tokens_in_all: int
    """Prompt and answer together: the request ends when it has so many."""
    arrival_time_s: float
    priority: int
    reads_prefix_cache: bool
    blocks: SequenceBlocks
    status: RequestStatus = RequestStatus.WAITING
    num_computed_tokens: int = 0
    """Tokens whose keys and values are in the cache, those of the steps under way included."""
    num_awaited_tokens: int = 0
    """Steps under way that each choose a token for it: so many more are certain, by their places only."""
    runs_ahead: bool = False
    """Whether a step may compute a token that is still awaited."""
    num_cached_tokens: int | None = None
    """Prompt tokens found in the prefix cache at the first admission; None before it.
    0 where another engine has counted them."""
    num_preemptions: int = 0
    queued_s: float = 0.0
    """When it came here."""
    waits_since_s: float = 0.0
    """When it was put into the queue: once its grammar is prepared, and again when it is preempted."""
    constraint: Constraint | None = None
    """Its grammar, once it is prepared."""
    events: list[RequestEvent] = field(default_factory=list)
    """Not reported yet."""
    num_prompt_logprobs_seen: int = 0
    """Prompt positions whose logprobs came since the last preemption."""
    num_prompt_logprobs_sent: int = 0
    lora: LoraRequest | None = None
    lora_slot: int = -1
    """While it runs: where its adapter is."""

    @classmethod
    def from_message(cls, message: NewRequest, max_model_len: int) -> Request:
        params = message.sampling_params
        num_prompt_tokens = len(message.prompt_token_ids)
        resumed = message.resumed or _AT_ITS_BEGINNING
        max_in_all = max_model_len
        if params.max_tokens is not None:
            max_in_all = min(max_in_all, num_prompt_tokens + params.max_tokens)
        return cls(
            request_id=message.request_id,
            token_ids=[*message.prompt_token_ids, *resumed.output_token_ids],
            num_prompt_tokens=num_prompt_tokens,
            sampling_params=params,
            eos_token_id=message.eos_token_id,
            stop_token_ids=frozenset(params.stop_token_ids),
            max_tokens_in_all=max_in_all,
            arrival_time_s=message.arrival_time_s,
            priority=message.priority,
            # A cached block has no logits, so asking for prompt logprobs outranks asking for the cache.
            reads_prefix_cache=params.reads_prefix_cache and params.prompt_logprobs is None,
            blocks=SequenceBlocks(salt=message.cache_salt, root=root_digest(_adapter_keys(message.lora))),
            num_cached_tokens=None if message.resumed is None else 0,
            num_prompt_logprobs_sent=resumed.num_prompt_logprobs,
            lora=message.lora,
            runs_ahead=runs_ahead(params),
        )

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_ready_tokens(self) -> int:
        """Tokens that a step may compute now; 1: a stream that waits for its next.

        Among them is one that is awaited, unless it must be known first, or ends the request by its place alone.
        """
        num_sure = len(self.token_ids) + self.num_awaited_tokens
        if self.num_awaited_tokens and not (self.runs_ahead and num_sure < self.max_tokens_in_all):
            return 0
        return num_sure - self.num_computed_tokens

    def move_to(self, status: RequestStatus) -> None:
        """Raises `EngineError` for a transition that the picture above does not have."""
        if status not in _SUCCESSORS.get(self.status, ()):
            raise EngineError(f"request {self.request_id} cannot go from {self.status.value} to {status.value}")
        self.status = status

    def add_event(self, kind: EventKind, time_s: float, reason: str | None = None) -> None:
        self.events.append(RequestEvent(kind, time_s, reason))

    def take_events(self) -> list[RequestEvent]:
        events, self.events = self.events, []
        return events

    def as_admitted(self) -> AdmittedRequest:
        """What the runner must know. A copy of the tokens: the runner appends to its own."""
        return AdmittedRequest(
            request_id=self.request_id,
            token_ids=list(self.token_ids),
            num_prompt_tokens=self.num_prompt_tokens,
            sampling_params=self.sampling_params,
            eos_token_id=self.eos_token_id,
            lora=self.lora,
            lora_slot=self.lora_slot,
        )


def _adapter_keys(lora: LoraRequest | None) -> list[str]:
    """What separates the keys and values that were computed with an adapter from all others."""
    return [] if lora is None else [lora.lora_name, str(lora.lora_int_id), lora.lora_path]
