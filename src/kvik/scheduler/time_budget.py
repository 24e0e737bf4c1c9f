"""How long a step may be: --max-step-ms. Prompts get only the time that the streams of a step can spare.

Decoding requests are in every step, whatever it takes. While there are any, prompts share what is left of the step's
time; with none, nobody waits for the step's end and the token budget alone counts. A prompt's first chunk has at least
`min_tokens`, so that prompts move under any load.

Without a fixed limit the time adapts. Prompts get half of a step at least, however many the streams: so a lone prompt
makes each gap of a stream twice as long at most, on any machine and with any model. When prompts outnumber streams,
each prompt, computed or waiting, gets twice the share of the engine that a stream gets: an engine whose few streams
held up a crowd of prompts would decode in small batches, which cost each token more. But no step takes more than
16 times its decoding alone: what more would gain is a sixteenth, and a crowd must not freeze its neighbours.

Knows no queue and no block. Chunk boundaries never change an answer (docs/architecture.md, Determinism).
"""

from __future__ import annotations

import logging
import math
from typing import Any

from kvik.scheduler.step_time import StepLoad, StepTimeModel
from kvik.step import ScheduledRequest, StepPlan
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

LEAST_STRETCH = 2.0
"""An adaptive step may take at least so many times its decoding alone."""
MOST_STRETCH = 16.0
PROMPT_WEIGHT = 2.0
"""The share of a prompt, where the share of a stream is 1."""


class PromptTime:
    """What one step has left for prompts: each share that is taken makes it less."""

    def __init__(self, model: StepTimeModel, limit_s: float, left_s: float, min_tokens: int) -> None:
        self.limit_s = limit_s
        """Of the whole step."""
        self._model = model
        self._left_s = left_s
        self._num_least_tokens = min_tokens
        """Of the next share; 0 once there is one."""
        self.is_used_up = False

    def take(self, num_computed_tokens: int, num_tokens: int) -> int:
        """How many of `num_tokens` there is time for; that time is taken. 0 once a share was cut, or all is used."""
        if self.is_used_up:
            return 0
        num_taken = min(num_tokens, max(self._num_least_tokens, self._num_affordable(num_computed_tokens)))
        self._num_least_tokens = 0
        # Whoever is cut ends the round: those behind it may be waiting for the very blocks that it computes.
        self.is_used_up = num_taken < num_tokens
        self._left_s -= self._model.predict_share(num_computed_tokens, num_taken)
        return num_taken

    def _num_affordable(self, num_computed_tokens: int) -> int:
        """The largest n with `predict_share(num_computed_tokens, n)` within what is left: a quadratic's root."""
        left_s = self._left_s - self._model.request_s
        half_pair_s = self._model.pair_s / 2
        token_s = self._model.token_s + self._model.pair_s * num_computed_tokens + half_pair_s
        if left_s <= 0 or token_s <= 0:
            return 0
        # The root of half_pair_s n^2 + token_s n = left_s, in the form that is exact for small half_pair_s.
        return int(2 * left_s / (token_s + math.sqrt(token_s * token_s + 4 * half_pair_s * left_s)))


class TimeBudget:
    """Learns what steps take, and says what prompts may have of the next one.

    `max_step_ms`: None adapts, 0 sets no limit (and then nothing here has any effect).
    """

    def __init__(self, max_step_ms: float | None, min_tokens: int) -> None:
        self._max_step_s = None if max_step_ms is None else max_step_ms / 1000
        self._min_tokens = min_tokens
        self._model = StepTimeModel()
        self._limit_s = 0.0
        """Of the last step that had one."""

    def for_prompts(self, decoding: list[ScheduledRequest], num_prompts: int) -> PromptTime | None:
        """The time for prompts, of which there are so many, beside these decoding shares. None: no limit."""
        if self._max_step_s == 0 or not decoding or not num_prompts or not self._model.is_known:
            return None
        decoding_s = self._model.predict(StepLoad.of(decoding))
        stretch = min(MOST_STRETCH, max(LEAST_STRETCH, 1 + PROMPT_WEIGHT * num_prompts / len(decoding)))
        self._limit_s = decoding_s * stretch if self._max_step_s is None else self._max_step_s
        return PromptTime(self._model, self._limit_s, self._limit_s - decoding_s, self._min_tokens)

    def learn(self, plan: StepPlan, seconds: float) -> None:
        """Take in what the step of `plan` took."""
        load = StepLoad.of(plan.scheduled)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "step of %d requests and %d tokens: %.1f ms, foreseen %.1f ms", load.num_requests, load.num_tokens,
                1e3 * seconds, 1e3 * self._model.predict(load),
            )  # fmt: skip
        self._model.learn(load, seconds)

    def describe(self) -> dict[str, Any]:
        """The limit and the estimate, in builtin types."""
        model = self._model
        return {
            "max_step_ms": "auto" if self._max_step_s is None else 1e3 * self._max_step_s,
            "last_limit_ms": 1e3 * self._limit_s,
            "num_learned_steps": model.num_learned_steps,
            "ms_per_step": 1e3 * model.step_s,
            "ms_per_request": 1e3 * model.request_s,
            "ms_per_token": 1e3 * model.token_s,
            "ms_per_million_pairs": 1e9 * model.pair_s,
        }
