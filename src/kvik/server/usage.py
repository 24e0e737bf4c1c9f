"""The `usage` object and the per-request timings of an answer. Counts tokens; knows no endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kvik.config.frontend import ServerConfig
from kvik.server.fields import StreamOptions
from kvik.telemetry.request_times import RequestTimes, joined
from kvik.text.outputs import RequestOutput


class UsageCounter:
    """Adds up what the outputs of one HTTP request report. Each prompt counts once, whatever n is."""

    def __init__(self, with_details: bool, with_timings: bool = False) -> None:
        """`with_timings`: the total tells how long each phase took (`return_timings` of a request)."""
        self._with_details = with_details
        self._with_timings = with_timings
        self._times: dict[int, list[RequestTimes]] = {}
        self._prompts: dict[int, tuple[int, int]] = {}
        self.num_completion_tokens: dict[int, int] = {}
        """By choice index."""
        self.num_reasoning_tokens: dict[int, int] = {}
        """By choice index; empty where reasoning is not looked for."""

    def add(self, prompt_index: int, output: RequestOutput, num_choices_per_prompt: int) -> None:
        """Count a delta, or a whole answer that comes once."""
        self.add_prompt(prompt_index, output)
        for answer in output.outputs:
            index = prompt_index * num_choices_per_prompt + answer.index
            self.num_completion_tokens[index] = self.num_completion_tokens.get(index, 0) + len(answer.token_ids)

    def add_prompt(self, prompt_index: int, output: RequestOutput) -> None:
        """Count the prompt of an output, and not yet its answers."""
        self._prompts[prompt_index] = (len(output.prompt_token_ids), output.num_cached_tokens)
        self._times[prompt_index] = output.times

    def total(self) -> dict[str, Any]:
        """All keys, also those without a value, as whole answers have them."""
        num_prompt_tokens = sum(count for count, _ in self._prompts.values())
        num_completion_tokens = sum(self.num_completion_tokens.values())
        usage = self._usage(num_prompt_tokens, num_completion_tokens, self.num_reasoning_tokens)
        if self._with_timings:
            usage["timings"] = phase_timings(list(self._times.values()))
        return usage

    def streamed_total(self) -> dict[str, Any]:
        return _without_nulls(self.total())

    def streamed_of_choice(self, index: int, prompt_index: int) -> dict[str, Any]:
        """Usage so far of one choice, for `continuous_usage_stats`."""
        num_prompt_tokens, _ = self._prompts.get(prompt_index, (0, 0))
        reasoning = {i: count for i, count in self.num_reasoning_tokens.items() if i == index}
        return _without_nulls(self._usage(num_prompt_tokens, self.num_completion_tokens.get(index, 0), reasoning))

    def _usage(
        self, num_prompt_tokens: int, num_completion_tokens: int, num_reasoning_tokens: dict[int, int]
    ) -> dict[str, Any]:
        reasoning = {"reasoning_tokens": sum(num_reasoning_tokens.values())} if num_reasoning_tokens else None
        return {
            "prompt_tokens": num_prompt_tokens,
            "total_tokens": num_prompt_tokens + num_completion_tokens,
            "completion_tokens": num_completion_tokens,
            "prompt_tokens_details": self._details(),
            "completion_tokens_details": reasoning,
        }

    def _details(self) -> dict[str, Any] | None:
        if not self._with_details:
            return None
        num_cached_tokens = sum(cached for _, cached in self._prompts.values())
        return {"cached_tokens": num_cached_tokens, "created_cache_tokens": None, "multimodal_tokens": None}


def phase_timings(prompts: Sequence[Sequence[RequestTimes]]) -> dict[str, Any] | None:
    """The `timings` of a usage object: seconds of each phase of a request, one after the other.

    `detokenize_s` lies within the others. `waiting_for` says what it stood in the queue for. None where nothing is
    known.
    """
    if not any(prompts):
        return None
    times = joined(prompts)
    seconds = {name: getattr(times, name) for name in TIMED}
    return {name: round(value, 6) for name, value in seconds.items()} | {
        "waiting_for": times.waiting_for,
        "cached_tokens": times.num_cached_tokens,
        "preemptions": times.num_preemptions,
    }


TIMED = ("prepare_s", "queue_s", "prefill_s", "decode_s", "detokenize_s", "total_s")
"""Phases, as `RequestTimes` calls them."""


def timings(times: RequestTimes, num_tokens: int) -> dict[str, Any]:
    """The `metrics` object of --enable-per-request-metrics, in milliseconds."""
    generation_s = max(0.0, times.last_token_s - times.first_token_s)
    has_rate = num_tokens > 1 and generation_s > 0
    return {
        "time_to_first_token_ms": times.first_token_latency_s * 1e3,
        "generation_time_ms": generation_s * 1e3,
        "queue_time_ms": max(0.0, times.scheduled_s - times.queued_s) * 1e3,
        "mean_itl_ms": generation_s / (num_tokens - 1) * 1e3 if num_tokens > 1 else None,
        "tokens_per_second": (num_tokens - 1) / generation_s if has_rate else None,
        "speculative_decoding": None,
    }


def _without_nulls(usage: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in usage.items() if value is not None}


class StreamUsage(NamedTuple):
    """Where a stream tells its usage."""

    at_end: bool
    in_every_chunk: bool


def stream_usage(options: StreamOptions | None, config: ServerConfig, with_timings: bool = False) -> StreamUsage:
    """What the request asks for; --enable-force-include-usage asks for both. Timings come with the usage at the end."""
    if config.enable_force_include_usage:
        return StreamUsage(True, True)
    at_end = bool(options and options.include_usage)
    return StreamUsage(at_end or with_timings, at_end and bool(options and options.continuous_usage_stats))
