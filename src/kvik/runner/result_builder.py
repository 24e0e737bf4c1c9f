"""Hidden states -> logits -> sampled tokens and log probabilities, for those requests of a step that want them."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
import numpy.typing as npt
import torch

from kvik.errors import EngineRequestError
from kvik.layers.batch import ForwardBatch
from kvik.messages import TokenLogprobs
from kvik.runner.device import ForwardPass
from kvik.runner.last_tokens import LastTokens
from kvik.runner.request_table import RequestRow, RequestTable
from kvik.runner.verifier import Verifier
from kvik.sampling import Chooser, Chosen, PlainChooser, SampledToken, Sampler, TokenMask
from kvik.step import SampledTokens, ScheduledRequest, StepPlan, StepResult

_PROMPT_ROWS_AT_ONCE = 64
"""Prompt positions whose logits are held at the same time: 64 rows of a 128k vocabulary are 33 MB."""


class ResultBuilder:
    """Steps are launched in order and finished in order; a few may be launched and not finished."""

    def __init__(
        self,
        model: ForwardPass,
        table: RequestTable,
        logprobs_mode: str,
        last_tokens: LastTokens | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        """`chooser`: the device's; without one, that of the CPU."""
        self._model = model
        self._table = table
        self._sampler = Sampler(logprobs_mode)
        self._verifier = Verifier(table, self._sampler)
        self._chooser = chooser or PlainChooser()
        self._last_tokens = last_tokens or LastTokens(len(table.token_ids))
        self._unfinished: deque[PendingStep] = deque()

    def launch(self, plan: StepPlan, batch: ForwardBatch, rows: list[RequestRow], hidden: torch.Tensor) -> PendingStep:
        """Begin to choose tokens; hidden [T, H]. They are in their requests' rows once the step is finished.

        Unless the step has drafts or scores a prompt, nothing here waits for a GPU.
        """
        results = [SampledTokens(s.request_id, []) for s in plan.scheduled]
        for i, (result, scheduled, row) in enumerate(zip(results, plan.scheduled, rows, strict=True)):
            if row.sampling.params.prompt_logprobs is not None:
                self._score_prompt(result, scheduled, row, hidden, int(batch.query_start_loc[i]))
        ending = [
            i for i, (s, row) in enumerate(zip(plan.scheduled, rows, strict=True))
            if s.num_computed_tokens + s.num_known_tokens == row.num_sure_tokens
        ]  # fmt: skip
        pending = PendingStep(self, results)
        if ending:
            logits = self._model.logits(hidden, batch.logits_rows)
            started_s = time.perf_counter()
            if not self._choose(pending, logits, ending, rows, plan):
                self._verify(pending, logits, ending, rows, plan)
            pending.sample_s = time.perf_counter() - started_s
        self._unfinished.append(pending)
        return pending

    def finish(self, step: PendingStep) -> None:
        """Take in what a step and those before it have chosen."""
        while not step.is_finished:
            self._take_in(self._unfinished.popleft())

    def _choose(
        self, pending: PendingStep, logits: torch.Tensor, ending: list[int], rows: list[RequestRow], plan: StepPlan
    ) -> bool:
        """The tokens stay where they were chosen, also for a next step that goes on from them. Whether it can be."""
        if any(plan.scheduled[i].draft_token_ids for i in ending):
            return False
        chosen_for = [rows[i] for i in ending]
        grammars = [_only_row(plan.scheduled[i].token_masks) for i in ending]
        pending.chosen = self._chooser.choose(logits, chosen_for, grammars)
        if pending.chosen is None:
            return False
        pending.ending = list(zip(ending, chosen_for, strict=True))
        self._last_tokens.keep([row.index for row in chosen_for], pending.chosen.token_ids)
        for row in chosen_for:
            self._table.await_token(row)
        return True

    def _verify(
        self, pending: PendingStep, logits: torch.Tensor, ending: list[int], rows: list[RequestRow], plan: StepPlan
    ) -> None:
        """With what cannot be chosen so: the tokens before must be known, and these are at once."""
        self._chooser.forget_rows()
        while self._unfinished:
            self._take_in(self._unfinished.popleft())
        drafts = [plan.scheduled[i].draft_token_ids for i in ending]
        masks = [plan.scheduled[i].token_masks for i in ending]
        taken = self._verifier.sample(logits, [rows[i] for i in ending], drafts, masks)
        for i, samples in zip(ending, taken, strict=True):
            _fill(pending.results[i], samples)

    def _take_in(self, step: PendingStep) -> None:
        step.is_finished = True
        if step.chosen is None:
            return
        started_s = time.perf_counter()
        for (i, row), sample in zip(step.ending, step.chosen.samples(), strict=True):
            _fill(step.results[i], [sample])
            if sample.error is None:
                self._table.append_token(row, sample.token_id)
        step.sample_s += time.perf_counter() - started_s

    def _score_prompt(
        self, result: SampledTokens, scheduled: ScheduledRequest, row: RequestRow, hidden: torch.Tensor, start: int
    ) -> None:
        """Score the prompt tokens that this step's positions predict; the first token of all has no score."""
        k = row.sampling.params.prompt_logprobs
        first = scheduled.num_computed_tokens
        end = min(first + scheduled.num_scheduled_tokens, row.num_prompt_tokens - 1)
        if k is None or first >= row.num_prompt_tokens:
            return
        scores: list[TokenLogprobs | None] = [None] if first == 0 else []
        try:
            for at in range(first, end, _PROMPT_ROWS_AT_ONCE):
                until = min(at + _PROMPT_ROWS_AT_ONCE, end)
                hidden_rows = torch.arange(start + at - first, start + until - first, dtype=torch.int32)
                targets = self._table.token_ids[row.index, at + 1 : until + 1].tolist()
                scores += self._sampler.prompt_logprobs(self._model.logits(hidden, hidden_rows), targets, k)
        except EngineRequestError as error:
            result.error = str(error)
        result.prompt_logprobs = scores


class PendingStep:
    """A step that was launched."""

    def __init__(self, builder: ResultBuilder, results: list[SampledTokens]) -> None:
        self._builder = builder
        self.results = results
        """One per scheduled request; complete once the step is finished."""
        self.chosen: Chosen | None = None
        """[R]; None: all that the step brings is in `results`."""
        self.ending: list[tuple[int, RequestRow]] = []
        """[R], the place in `results` and the row of each request that gets one of them."""
        self.sample_s = 0.0
        self.is_finished = False

    def result(self) -> StepResult:
        """Wait for the tokens."""
        self._builder.finish(self)
        return StepResult(self.results, self.sample_s)


def _only_row(masks: npt.NDArray[np.uint32] | None) -> TokenMask | None:
    """Of a request without drafts, which has one."""
    return None if masks is None else masks[0]


def _fill(result: SampledTokens, samples: list[SampledToken]) -> None:
    if samples[0].error is not None:
        result.error, result.error_param = samples[0].error, samples[0].error_param
        return
    result.token_ids = [sample.token_id for sample in samples]
    if samples[0].logprobs is not None:
        result.logprobs = [sample.logprobs for sample in samples if sample.logprobs is not None]
