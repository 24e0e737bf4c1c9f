"""Hidden states -> logits -> sampled tokens and log probabilities, for those requests of a step that want them."""

from __future__ import annotations

import time

import torch

from kvik.errors import EngineRequestError
from kvik.layers.batch import ForwardBatch
from kvik.messages import TokenLogprobs
from kvik.runner.request_table import RequestRow, RequestTable
from kvik.runner.taped_model import ForwardPass
from kvik.runner.verifier import Verifier
from kvik.sampling import SampledToken, Sampler
from kvik.step import SampledTokens, ScheduledRequest, StepPlan, StepResult

_PROMPT_ROWS_AT_ONCE = 64
"""Prompt positions whose logits are held at the same time: 64 rows of a 128k vocabulary are 33 MB."""


class ResultBuilder:
    def __init__(self, model: ForwardPass, table: RequestTable, logprobs_mode: str) -> None:
        self._model = model
        self._table = table
        self._sampler = Sampler(logprobs_mode)
        self._verifier = Verifier(table, self._sampler)

    def build(self, plan: StepPlan, batch: ForwardBatch, rows: list[RequestRow], hidden: torch.Tensor) -> StepResult:
        """One entry per scheduled request; hidden [T, H]. Appends the new tokens to their requests' rows."""
        results = [SampledTokens(s.request_id, []) for s in plan.scheduled]
        for i, (result, scheduled, row) in enumerate(zip(results, plan.scheduled, rows, strict=True)):
            if row.sampling.params.prompt_logprobs is not None:
                self._score_prompt(result, scheduled, row, hidden, int(batch.query_start_loc[i]))
        ending = [
            i for i, (s, row) in enumerate(zip(plan.scheduled, rows, strict=True))
            if s.num_computed_tokens + s.num_known_tokens == row.num_tokens
        ]  # fmt: skip
        sample_s = 0.0
        if ending:
            logits = self._model.logits(hidden, batch.logits_rows)
            drafts = [plan.scheduled[i].draft_token_ids for i in ending]
            masks = [plan.scheduled[i].token_masks for i in ending]
            started_s = time.perf_counter()
            taken = self._verifier.sample(logits, [rows[i] for i in ending], drafts, masks)
            sample_s = time.perf_counter() - started_s
            for i, samples in zip(ending, taken, strict=True):
                _fill(results[i], samples)
        return StepResult(results, sample_s)

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


def _fill(result: SampledTokens, samples: list[SampledToken]) -> None:
    if samples[0].error is not None:
        result.error, result.error_param = samples[0].error, samples[0].error_param
        return
    result.token_ids = [sample.token_id for sample in samples]
    logprobs = [sample.logprobs for sample in samples if sample.logprobs is not None]
    result.logprobs = logprobs or None
