"""Beam searches over many prompts, so and so many at once: one token for every beam of all of them in each round.

`kvik.engine_client.beam_search` says which texts are followed; here they are computed. The names of the records are
those that users of the original know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from kvik.engine_client.beam_search import BeamModel, BeamSearch
from kvik.errors import InvalidRequestError
from kvik.llm.batch import BatchRunner, OfflineRequest
from kvik.llm.progress import progress
from kvik.llm.prompts import Prompt, prompt_parts
from kvik.messages import LoraRequest
from kvik.sampling_params import BeamSearchParams
from kvik.text.outputs import CompletionOutput, PositionLogprobs
from kvik.text.tokenizer import Tokenizer


@dataclass(slots=True)
class BeamSearchSequence:
    """One of the answers to a prompt, with the prompt before it."""

    orig_prompt: Prompt
    """As the caller wrote it."""
    tokens: list[int]
    """Of the prompt and the answer; a stop token is the last one."""
    logprobs: list[PositionLogprobs]
    """One per token of the answer: that token, then the likeliest in its place."""
    lora_request: LoraRequest | None = None
    cum_logprob: float = 0.0
    """Sum over the tokens of the answer."""
    text: str | None = None
    """Of prompt and answer. The answer's part ends before its stop string or stop token, unless they were asked for."""
    finish_reason: str | None = None
    """"stop" or "length"."""
    stop_reason: int | str | None = None
    """The stop string or stop token id that ended it; None for the EOS token."""


@dataclass(slots=True)
class BeamSearchOutput:
    """The `beam_width` answers to one prompt, best first."""

    sequences: list[BeamSearchSequence]
    prompt_token_ids: list[int]
    prompt_logprobs: list[PositionLogprobs | None] | None = None
    """One per prompt token, the first None, if asked for."""


@dataclass(frozen=True, slots=True)
class PromptSearch:
    """One prompt and the search after it."""

    prompt: Prompt
    search: BeamSearch
    cache_salt: str | None
    lora: LoraRequest | None

    @classmethod
    def of(cls, prompt: Prompt, params: BeamSearchParams, model: BeamModel, lora: LoraRequest | None) -> PromptSearch:
        """Raises `InvalidRequestError` where the model cannot do it."""
        content, cache_salt = prompt_parts(prompt)
        return cls(prompt, BeamSearch(content, _with_logprobs(params, model), model), cache_salt, lora)

    def requests(self) -> list[OfflineRequest]:
        """What is to be computed next: one token after each beam."""
        return [
            OfflineRequest(prompt=content, params=self.search.step_params, cache_salt=self.cache_salt, lora=self.lora)
            for content in self.search.prompts()
        ]

    def output(self, tokenizer: Tokenizer, request_id: str) -> BeamSearchOutput:
        """The answers, once the search is done."""
        found = self.search.output(request_id)
        ids = found.prompt_token_ids
        prompt_text = tokenizer.decode(ids, skip_special_tokens=self.search.params.skip_special_tokens)
        sequences = [self._sequence(answer, ids, prompt_text) for answer in found.outputs]
        return BeamSearchOutput(sequences, ids, found.prompt_logprobs)

    def _sequence(self, answer: CompletionOutput, prompt_ids: list[int], prompt_text: str) -> BeamSearchSequence:
        return BeamSearchSequence(
            orig_prompt=self.prompt,
            tokens=[*prompt_ids, *answer.token_ids],
            logprobs=answer.logprobs or [],
            lora_request=self.lora,
            cum_logprob=answer.cumulative_logprob or 0.0,
            text=prompt_text + answer.text,
            finish_reason=answer.finish_reason,
            stop_reason=answer.stop_reason,
        )


def run_searches(
    runner: BatchRunner, searches: Sequence[PromptSearch], *, concurrency_limit: int | None, use_tqdm: bool
) -> None:
    """Search until all are done, at most `concurrency_limit` prompts at once (None: all of them).

    Raises what `BatchRunner.run` raises.
    """
    if concurrency_limit is not None and concurrency_limit < 1:
        raise InvalidRequestError(
            f"concurrency_limit must be at least 1, or None for all prompts at once; got {concurrency_limit}",
            param="concurrency_limit",
        )
    waiting, running = deque(searches), list[PromptSearch]()
    with progress(len(searches), use_tqdm) as advance:
        while waiting or running:
            while waiting and (concurrency_limit is None or len(running) < concurrency_limit):
                running.append(waiting.popleft())
            _search_round(runner, running)
            for one in running:
                if one.search.is_done:
                    advance(one.search.num_tokens)
            running = [one for one in running if not one.search.is_done]


def _search_round(runner: BatchRunner, searches: Sequence[PromptSearch]) -> None:
    """One token for every beam of all `searches`, in one list."""
    by_search = [one.requests() for one in searches]
    outputs = iter(runner.run([request for requests in by_search for request in requests]))
    for one, requests in zip(searches, by_search, strict=True):
        one.search.advance([next(outputs) for _ in requests])


def _with_logprobs(params: BeamSearchParams, model: BeamModel) -> BeamSearchParams:
    """The records hold logprobs in any case; without a wish, those that the search looks at."""
    if params.logprobs is not None:
        return params
    return replace(params, logprobs=min(2 * params.beam_width, model.vocab_size))
