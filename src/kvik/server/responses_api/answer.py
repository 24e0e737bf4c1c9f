"""The response object: what a request asked for, and what became of it. Knows neither engine nor HTTP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kvik.sampling_params import SamplingParams
from kvik.server.responses_api.convert import Wishes
from kvik.server.responses_api.protocol import ResponsesRequest
from kvik.server.usage import phase_timings
from kvik.telemetry.request_times import RequestTimes

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
RUNNING: tuple[Status, ...] = ("queued", "in_progress")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseFacts:
    """What is known of a response when it begins."""

    id: str
    request: ResponsesRequest
    wishes: Wishes
    params: SamplingParams
    model: str
    created_s: int
    """Unix time."""
    max_model_len: int
    block_size: int
    """Tokens per block of the prefix cache; 0 where there is none."""
    as_token_ids: bool = False
    """Logprobs name tokens as `token_id:N`."""


@dataclass(slots=True)
class TokenCounts:
    """Of one response. Before the engine's first word all is 0."""

    num_input: int = 0
    num_cached: int = 0
    num_output: int = 0
    num_reasoning: int = 0
    times: Sequence[RequestTimes] = ()

    def usage(self, block_size: int, with_timings: bool = False) -> dict[str, Any]:
        """The `usage` object. Only whole blocks of a prompt are written to the cache."""
        num_written = self.num_input // block_size * block_size - self.num_cached if block_size else 0
        usage: dict[str, Any] = {
            "input_tokens": self.num_input,
            "input_tokens_details": {
                "cached_tokens": self.num_cached,
                "cache_write_tokens": max(0, num_written),
                "input_tokens_per_turn": [self.num_input],
                "cached_tokens_per_turn": [self.num_cached],
            },
            "output_tokens": self.num_output,
            "output_tokens_details": {
                "reasoning_tokens": self.num_reasoning,
                "tool_output_tokens": 0,
                "output_tokens_per_turn": [self.num_output],
                "tool_output_tokens_per_turn": [0],
            },
            "total_tokens": self.num_input + self.num_output,
        }
        if with_timings:
            usage["timings"] = phase_timings([self.times])
        return usage


@dataclass(slots=True)
class Outcome:
    """What became of a response so far."""

    status: Status
    output: list[dict[str, Any]] = field(default_factory=list)
    counts: TokenCounts = field(default_factory=TokenCounts)
    error: dict[str, Any] | None = None
    completed_s: int | None = None
    """Unix time."""

    def end(self, status: Status, error: dict[str, Any] | None = None) -> None:
        self.status, self.error = status, error
        if status == "completed":
            self.completed_s = int(time.time())


def response_body(facts: ResponseFacts, outcome: Outcome) -> dict[str, Any]:
    """The response object; keys without a value are there, as null."""
    request, params = facts.request, facts.params
    is_cut = outcome.status == "incomplete"
    has_usage = outcome.status not in RUNNING and outcome.counts.num_input > 0
    return {
        "id": facts.id,
        "object": "response",
        "created_at": facts.created_s,
        "completed_at": outcome.completed_s,
        "status": outcome.status,
        "background": bool(request.background),
        "error": outcome.error,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "instructions": request.instructions,
        "max_output_tokens": _max_output_tokens(facts, outcome.counts.num_input),
        "max_tool_calls": request.max_tool_calls,
        "model": facts.model,
        "output": list(outcome.output),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "prompt": None,
        "prompt_cache_key": request.prompt_cache_key,
        "prompt_cache_retention": request.prompt_cache_retention,
        "reasoning": {"effort": request.reasoning.effort if request.reasoning else None, "summary": None},
        "safety_identifier": request.safety_identifier,
        "service_tier": request.service_tier or "auto",
        "store": request.is_stored,
        "temperature": params.temperature,
        "text": _text(facts),
        "tool_choice": facts.wishes.tool_choice,
        "tools": facts.wishes.tools,
        "top_logprobs": request.top_logprobs or 0,
        "top_p": params.top_p,
        "truncation": request.truncation or "disabled",
        "usage": outcome.counts.usage(facts.block_size, request.return_timings) if has_usage else None,
        "user": request.user,
        "metadata": request.metadata or {},
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }


def _text(facts: ResponseFacts) -> dict[str, Any]:
    verbosity = facts.request.text.verbosity if facts.request.text else None
    return {"format": facts.wishes.text_format, "verbosity": verbosity}


def _max_output_tokens(facts: ResponseFacts, num_input: int) -> int | None:
    """What was asked until the length of the prompt is known; then what may come."""
    asked = facts.params.max_tokens
    if not num_input:
        return asked
    remaining = facts.max_model_len - num_input
    return remaining if asked is None else min(asked, remaining)
