"""All that crosses the wall between the API process and the engine process. Knows no socket.

Towards the engine: `Start` once, then `NewRequest`, `Abort`, `UtilityCall`, `Shutdown`.
Towards the API process: `Hello`, `StartupProgress`..., then `Ready` or `StartFailed`; then one `StepOutputs` per
engine step, `UtilityResult`s, and `EngineFailed` as the last word of a dying engine.

On the wire they are msgpack arrays, so the order of fields is part of the protocol: append, never reorder.
Times are seconds on CLOCK_MONOTONIC, which all processes of one machine share, unless a name says otherwise.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

from kvik.config import EngineConfig
from kvik.sampling_params import SamplingParams


class FinishReason(IntEnum):
    """Why a request ended. The names in lower case are what clients read."""

    STOP = 0
    LENGTH = 1
    ABORT = 2
    ERROR = 3
    REPETITION = 4

    def __str__(self) -> str:
        return self.name.lower()


class EventKind(IntEnum):
    QUEUED = 1
    SCHEDULED = 2
    PREEMPTED = 3


class _Message(msgspec.Struct, array_like=True, tag=True, gc=False):
    """A message of its own: tagged, so that a decoder of the union knows which it is."""


class _Part(msgspec.Struct, array_like=True, gc=False):
    """A part of a message, never sent alone."""


# --- towards the engine -----------------------------------------------------------------------------


class Start(_Message):
    """The answer to `Hello`: what was asked of this engine."""

    config: EngineConfig


class LoraRequest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Which adapter a request wants: one load of one folder. Two that are equal are the same adapter."""

    lora_name: str
    """What clients call it."""
    lora_int_id: int
    """1 or more; each load has its own, so that what was computed with an earlier one is never taken for this one's."""
    lora_path: str
    """A PEFT folder."""


class Resumed(_Part):
    """What of a request's answer is there already: an engine before this one generated it."""

    output_token_ids: list[int]
    num_prompt_logprobs: int = 0
    """Prompt positions whose logprobs are there."""


class NewRequest(_Message):
    """One sequence to generate. A request with n > 1 arrives as n of these."""

    request_id: str
    prompt_token_ids: list[int]
    sampling_params: SamplingParams
    arrival_time_s: float
    eos_token_id: int | None = None
    """The token that ends the answer by itself; None when `ignore_eos` is set or the model has none."""
    priority: int = 0
    """Lower is sooner; read by the priority policy only."""
    cache_salt: str | None = None
    """Requests with different salts never share cached blocks."""
    lora: LoraRequest | None = None
    """The adapter; None: the model as it is."""
    resumed: Resumed | None = None
    """None: its answer begins here."""


class Abort(_Message):
    request_ids: list[str]


class UtilityCall(_Message):
    """Call `method` of the engine with `args`; answered by a `UtilityResult` of the same `call_id`."""

    call_id: int
    method: str
    args: list[Any] = []


class Shutdown(_Message):
    """End the engine process now; what still runs is aborted."""


# --- towards the API process ------------------------------------------------------------------------


class Phase(_Part):
    """One phase of a start, as a span on the shared clock. "PHASE: PART" is a part of the phase PHASE."""

    name: str
    process: str
    start_s: float
    end_s: float | None
    """None: it is in progress."""
    num_bytes: int = 0
    """What it reads or reserves; 0: that is not what it does."""
    num_bytes_done: int = 0
    """While it is in progress."""

    @property
    def seconds(self) -> float:
        """How long it took; 0 while it is in progress."""
        return 0.0 if self.end_s is None else self.end_s - self.start_s

    @property
    def is_part(self) -> bool:
        return ": " in self.name


class Hello(_Message):
    """The engine process runs and can be told what to do."""

    pid: int


class StartupProgress(_Message):
    """A phase of the start has begun in the engine process, has come further, or has ended."""

    phase: Phase


class EngineFacts(msgspec.Struct, array_like=True, frozen=True):
    """What the engine measured at its start. `EngineConfig` is what was asked; neither is written again."""

    device: str
    """"cpu" or "cuda"."""
    kernels: str
    """What computes: "avx512", "avx2", ... or "reference" where no native build exists."""
    num_threads: int
    weights_bytes: int
    kv_cache_bytes: int
    num_blocks: int
    """Usable blocks of the pool; the null block is not among them."""
    block_size: int
    """Tokens per block."""
    max_model_len: int
    """Tokens, prompt and answer together."""
    activations_bytes: int = 0
    """Most that intermediate results of a step take."""
    adapters_bytes: int = 0
    framework_bytes: int = 0
    """What the engine's process takes beside all else that is counted."""
    device_memory_bytes: int = 0
    """What the device was taken to have."""
    graphs_bytes: int = 0
    """Captured CUDA graphs."""

    @property
    def kv_cache_size_tokens(self) -> int:
        return self.num_blocks * self.block_size

    @property
    def max_concurrency(self) -> float:
        """How many requests of `max_model_len` tokens fit at once."""
        return self.kv_cache_size_tokens / self.max_model_len


class Ready(_Message):
    facts: EngineFacts
    phases: list[Phase]


class StartFailed(_Message):
    """The engine could not start. `error` is a class name of `kvik.errors`, or "" for an unforeseen error."""

    error: str
    message: str


class TokenLogprobs(_Part):
    """Log probabilities at one position: the chosen token first, then ranks 1, 2, ... (chosen one left out)."""

    token_ids: list[int]
    logprobs: list[float]
    ranks: list[int]
    """1 is the most likely token of the vocabulary."""


class RequestEvent(_Part):
    kind: EventKind
    time_s: float
    reason: str | None = None
    """With SCHEDULED: what it waited for, a field of `WaitingFor`; None: it did not wait."""


class TokenDelta(_Part):
    """What one step brought to one request. A request's last delta carries its finish reason."""

    request_id: str
    new_token_ids: list[int]
    new_logprobs: list[TokenLogprobs] | None = None
    """One per new token, if asked for."""
    new_prompt_logprobs: list[TokenLogprobs | None] | None = None
    """For the next stretch of prompt positions; the very first position has None."""
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    """The stop token id that ended it, if it was not the EOS token; "repetition_detected"."""
    error: str | None = None
    """Set with FinishReason.ERROR: what went wrong with this request."""
    num_cached_tokens: int = 0
    """Prompt tokens whose keys and values were found in the prefix cache at the first admission."""
    events: list[RequestEvent] = []
    ends_with_text: bool = False
    """With FinishReason.STOP: the last token is part of the answer, which its grammar ended, and stops nothing."""
    error_param: str | None = None
    """With an error that the request itself has caused: the field that did."""


class SpecDecodeStats(_Part):
    """What became of one step's drafts."""

    num_drafts: int = 0
    """Requests that had drafts."""
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    """The token after the accepted ones, which a step brings anyway, is not counted."""
    num_accepted_tokens_per_pos: list[int] = []
    """By place in the draft; as long as the longest draft."""


NOTED_GRAMMAR_WAIT_S = 0.05
"""A grammar that was ready sooner kept nobody waiting."""


class WaitingFor(_Part):
    """How many requests wait, by what each of them waits for; together all that wait."""

    blocks: int = 0
    """There are no KV blocks for the next one in turn."""
    slots: int = 0
    """As many requests run as may."""
    budget: int = 0
    """The tokens, or the time, of the last step were used up by those before them."""
    grammar: int = 0
    """Their grammar is being compiled; others overtake them."""
    adapter: int = 0
    """As many adapters run as may, and theirs is none of them; others overtake them."""


class StepTimes(_Part):
    """Where the time of a step went."""

    schedule_s: float = 0.0
    """Planning it."""
    execute_s: float = 0.0
    """The model, and what it needs of the plan; without `sample_s`."""
    sample_s: float = 0.0
    """Logits to token ids."""
    update_s: float = 0.0
    """Taking in what it brought."""
    wire_s: float = 0.0
    """Since the step before: sending what that one brought, and taking in what had arrived; no waiting in it."""


class SchedulerStats(_Part):
    """State after a step, and counts since the last report."""

    num_running: int = 0
    num_waiting: int = 0
    kv_cache_usage: float = 0.0
    """Share of the usable blocks that requests hold, 0 to 1."""
    num_preemptions: int = 0
    """Preemptions in this step."""
    prefix_cache_queries: int = 0
    """Tokens looked up in this step."""
    prefix_cache_hits: int = 0
    """Tokens found in this step."""
    prefix_cache_was_reset: bool = False
    step_time_s: float = 0.0
    spec_decode: SpecDecodeStats | None = None
    """None where nothing was drafted since the last report."""
    running_loras: list[str] = []
    """Names of the adapters of running requests."""
    waiting_loras: list[str] = []
    """Names of the adapters of waiting requests."""
    num_indexed_blocks: int = 0
    """Blocks that the prefix cache can find."""
    waiting_for: WaitingFor | None = None
    """None where nobody waits. `num_waiting` are those of them that stand in the queue: not those for a grammar."""
    step_times: StepTimes | None = None
    """None where nothing was computed."""


class StepOutputs(_Message):
    """All that one engine step brought, for all requests. One message per step."""

    deltas: list[TokenDelta]
    time_s: float
    """When the step ended."""
    stats: SchedulerStats | None = None


class UtilityResult(_Message):
    call_id: int
    result: Any = None
    failure: str | None = None
    is_foreseen: bool = False
    """The failure is one of ours, in words for whoever asked."""


class EngineFailed(_Message):
    """The engine's loop has ended with an error: every open request is lost."""

    message: str


ToEngine = Start | NewRequest | Abort | UtilityCall | Shutdown
FromEngine = Hello | StartupProgress | Ready | StartFailed | StepOutputs | UtilityResult | EngineFailed
