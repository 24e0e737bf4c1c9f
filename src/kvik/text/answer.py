"""One answer of a request while it grows: its tokens, its text, its logprobs and its times.

Takes `TokenDelta`s, gives `CompletionOutput`s. Knows nothing of the other answers of its request.
"""

from __future__ import annotations

import time

from kvik.messages import EventKind, FinishReason, TokenDelta, TokenLogprobs
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.telemetry.request_times import RequestTimes
from kvik.telemetry.stats import IterationStats
from kvik.text.detokenizer import Detokenizer
from kvik.text.logprobs import LogprobDecoder
from kvik.text.outputs import CompletionOutput, PositionLogprobs
from kvik.text.tokenizer import Tokenizer


class Answer:
    """Everything about answer `index`; `engine_id` is its own request in the engine.

    `cumulative` says what `take_output` gives: all so far, or what is new since the last time.
    """

    def __init__(
        self,
        index: int,
        engine_id: str,
        prompt_token_ids: list[int],
        params: SamplingParams,
        arrival_time_s: float,
        tokenizer: Tokenizer | None,
        logprob_decoder: LogprobDecoder,
    ) -> None:
        self.index = index
        self.engine_id = engine_id
        self.times = RequestTimes(arrival_time_s, num_prompt_tokens=len(prompt_token_ids))
        """Counts of tokens are in it, too."""
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None
        self._prompt_token_ids = prompt_token_ids
        self._params = params
        self._cumulative = params.output_kind != OutputKind.DELTA
        self._detokenizer = Detokenizer(tokenizer, prompt_token_ids, params)
        self._logprob_decoder = logprob_decoder
        self._token_ids: list[int] = []
        self._logprobs: list[PositionLogprobs] = []
        self._recent_ids = prompt_token_ids[-8:]
        """The last tokens of prompt and answer, which complete half characters in logprobs."""
        self._cumulative_logprob = 0.0
        self._num_shown_chars = 0
        self._num_shown_tokens = 0

    @property
    def num_tokens(self) -> int:
        return self.times.num_tokens

    @property
    def num_cached_tokens(self) -> int:
        """Prompt tokens found in the prefix cache."""
        return self.times.num_cached_tokens

    def update(self, delta: TokenDelta, step_time_s: float, stats: IterationStats) -> bool:
        """Take what a step brought; True if a stop string ended the answer, so that the engine must be told."""
        self._note_events(delta)
        self.times.num_cached_tokens = max(self.times.num_cached_tokens, delta.num_cached_tokens)
        ended_in_engine = delta.finish_reason
        num_kept, stop = self._detokenize(delta)
        if delta.new_token_ids:
            self._note_tokens(num_kept, step_time_s, stats)
            self._keep(delta.new_token_ids[:num_kept], delta.new_logprobs)
        if stop is not None:
            self.finish_reason, self.stop_reason = FinishReason.STOP, stop
        elif ended_in_engine is not None:
            self.finish_reason, self.stop_reason = ended_in_engine, delta.stop_reason
        return stop is not None and ended_in_engine is None

    def _detokenize(self, delta: TokenDelta) -> tuple[int, str | None]:
        """How many of the tokens are part of the answer, and the stop string that ended it."""
        started_s = time.monotonic()
        reason = delta.finish_reason
        num_kept, stop = self._detokenizer.push(
            delta.new_token_ids,
            ends_with_stop_token=reason == FinishReason.STOP and not delta.ends_with_text,
        )
        if stop is None and reason is not None:
            stop = self._detokenizer.finish()
        self.times.detokenize_s += time.monotonic() - started_s
        return num_kept, stop

    def end(self, reason: FinishReason) -> None:
        """End it from outside, showing what was held back."""
        self._detokenizer.finish()
        self.finish_reason, self.stop_reason = reason, None

    def take_output(self) -> CompletionOutput:
        """All so far, or what is new since the last call."""
        text = self._detokenizer.text
        has_logprobs = self._has_logprobs
        output = CompletionOutput(
            index=self.index,
            text=text if self._cumulative else text[self._num_shown_chars :],
            token_ids=list(self._token_ids) if self._cumulative else self._token_ids[self._num_shown_tokens :],
            logprobs=(list(self._logprobs) if self._cumulative else self._logprobs) if has_logprobs else None,
            cumulative_logprob=self._cumulative_logprob if has_logprobs else None,
            finish_reason=None if self.finish_reason is None else str(self.finish_reason),
            stop_reason=self.stop_reason,
        )
        self._num_shown_chars, self._num_shown_tokens = len(text), len(self._token_ids)
        if not self._cumulative:
            self._logprobs = []  # the list is the output's now
        return output

    def finish_times(self) -> RequestTimes:
        """The times with all that is known at the end, once `finish_reason` is set."""
        assert self.finish_reason is not None
        times = self.times
        times.finished_s = time.monotonic()
        times.finish_reason = str(self.finish_reason)
        times.max_tokens = self._params.max_tokens
        return times

    @property
    def token_ids(self) -> list[int]:
        """A copy of all so far, as the engine has given them."""
        return list(self._token_ids)

    @property
    def _has_logprobs(self) -> bool:
        return self._params.logprobs is not None or self._params.logprob_token_ids is not None

    def _keep(self, token_ids: list[int], logprobs: list[TokenLogprobs] | None) -> None:
        if logprobs is not None and self._has_logprobs:
            for token_id, position in zip(token_ids, logprobs, strict=False):
                self._logprobs.append(self._logprob_decoder.position(self._recent_ids, position))
                self._cumulative_logprob += position.logprobs[0]
                self._recent_ids = [*self._recent_ids[-7:], token_id]
        self._token_ids += token_ids

    def _note_events(self, delta: TokenDelta) -> None:
        for event in delta.events:
            if event.kind == EventKind.PREEMPTED:
                self.times.num_preemptions += 1
            elif event.kind == EventKind.QUEUED:
                self.times.queued_s = self.times.queued_s or event.time_s
            elif not self.times.scheduled_s:
                self.times.scheduled_s = event.time_s
                self.times.waiting_for = self.times.waiting_for or event.reason

    def _note_tokens(self, num_tokens: int, step_time_s: float, stats: IterationStats) -> None:
        stats.num_generation_tokens += num_tokens
        times = self.times
        if self.num_tokens == 0:
            times.first_token_s = step_time_s
            times.first_token_latency_s = time.monotonic() - times.arrival_s
            stats.num_prompt_tokens += len(self._prompt_token_ids)
            stats.num_cached_tokens += self.num_cached_tokens
            stats.time_to_first_token_s.append(times.first_token_latency_s)
        else:
            stats.inter_token_latency_s.append(step_time_s - times.last_token_s)
        times.last_token_s = step_time_s
        times.num_tokens += num_tokens
