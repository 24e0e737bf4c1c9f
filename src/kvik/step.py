"""One engine step: what the scheduler asks of an executor, and what it gets back.

Request ids are the engine's. Blocks are ids into the KV pool; block 0 is the null block and is never written.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from kvik.messages import LoraRequest, TokenLogprobs
from kvik.sampling_params import SamplingParams

MemoryPart = Literal["kv_cache", "weights"]
"""What a sleeping engine may give back of its memory."""


class AdmittedRequest(msgspec.Struct, array_like=True):
    """A request that the runner does not know (new, or forgotten when it was preempted)."""

    request_id: str
    token_ids: list[int]
    """Prompt, and after a preemption the tokens generated so far."""
    num_prompt_tokens: int
    sampling_params: SamplingParams
    eos_token_id: int | None
    """As in `NewRequest`; masked, with the stop token ids, until min_tokens are there."""
    lora: LoraRequest | None = None
    """Its adapter."""
    lora_slot: int = -1
    """Where the adapter is, or is to be put: no running request has another one there. -1: no adapter."""


class ScheduledRequest(msgspec.Struct, array_like=True):
    """The share of one request in this step: tokens [num_computed, num_computed + num_scheduled), drafts included."""

    request_id: str
    num_computed_tokens: int
    num_scheduled_tokens: int
    new_block_ids: list[int]
    """Appended to the request's block table before the step; for an admitted request, the whole table."""
    draft_token_ids: list[int] = []
    """Guesses for what follows the known tokens, the last ones of the share: computed beside them, kept if right."""
    token_masks: npt.NDArray[np.uint32] | None = None
    """Packed bits [1 + drafts, words]: the tokens that may follow, by the request's grammar. None: all of them."""
    input_in_flight: bool = False
    """The last token of the share is the one that the step before this plan chooses for the request: the scheduler
    does not know it yet. It is nobody's draft and has no mask, and its request has no bad words of several tokens."""

    @property
    def num_draft_tokens(self) -> int:
        return len(self.draft_token_ids)

    @property
    def num_known_tokens(self) -> int:
        """Scheduled tokens that are no guesses."""
        return self.num_scheduled_tokens - len(self.draft_token_ids)


class StepPlan(msgspec.Struct, array_like=True):
    """What one step computes. The sum of num_scheduled_tokens is within the token budget."""

    admitted: list[AdmittedRequest]
    scheduled: list[ScheduledRequest]
    """Every request of the step, the admitted ones too, in batch order."""
    dropped_request_ids: list[str]
    """Finished, aborted or preempted since the last plan; the runner forgets them first."""

    @property
    def num_scheduled_tokens(self) -> int:
        return sum(s.num_scheduled_tokens for s in self.scheduled)


class SampledTokens(msgspec.Struct, array_like=True):
    """What one scheduled request got out of a step."""

    request_id: str
    token_ids: list[int]
    """Empty while the prompt is still being computed. With drafts: those that came true, then the one after them."""
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    error: str | None = None
    """Why this request cannot go on; the others of the step are not touched."""
    error_param: str | None = None
    """The request's field that caused it; None where we did."""


class StepResult(msgspec.Struct, array_like=True):
    sampled: list[SampledTokens]
    """One per scheduled request, in the order of the plan."""
    sample_s: float = 0.0
    """Of the time that the step took: logits to token ids."""
