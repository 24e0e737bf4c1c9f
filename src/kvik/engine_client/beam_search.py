"""Beam search over an engine that generates one token at a time: which texts to follow, which have ended, who wins.

Each step asks the engine for the likeliest next tokens after each beam, all beams in one batch; the prefix cache makes
that one token's work a beam. Knows neither how the engine is reached nor HTTP: `prompts` is what to ask next, `advance`
takes the answers.

The algorithm is the usual one (Lowerre 1976; lengths as in Wu et al. 2016, without the constant): of the
2 * beam_width likeliest tokens after each beam, those that end the answer make finished ones, and the best beam_width
others go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvik.config import EngineConfig
from kvik.errors import InvalidRequestError
from kvik.messages import EngineFacts
from kvik.sampling_params import BeamSearchParams, OutputKind, SamplingParams
from kvik.text.detokenizer import Detokenizer
from kvik.text.outputs import CompletionOutput, PositionLogprobs, RequestOutput
from kvik.text.processor import eos_token_ids
from kvik.text.tokenizer import Tokenizer
from kvik.text.vocabulary_checks import check_logprobs, check_stop_strings, check_vocabulary


@dataclass(frozen=True, slots=True)
class BeamModel:
    """What a search must know of the model."""

    tokenizer: Tokenizer | None
    eos_token_ids: frozenset[int]
    vocab_size: int
    max_model_len: int
    """Tokens, prompt and answer together."""
    max_logprobs: int
    """--max-logprobs; -1: no limit."""

    @classmethod
    def of(cls, config: EngineConfig, facts: EngineFacts, tokenizer: Tokenizer | None) -> BeamModel:
        eos, more = eos_token_ids(config.model, tokenizer)
        ends = frozenset(more) if eos is None else frozenset((eos, *more))
        return cls(tokenizer, ends, config.model.spec.vocab_size, facts.max_model_len, config.model.max_logprobs)


@dataclass(frozen=True, slots=True)
class Beam:
    """One text so far, without the prompt."""

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[PositionLogprobs, ...] = ()
    cumulative_logprob: float = 0.0
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def score(self, length_penalty: float) -> float:
        return self.cumulative_logprob / float(len(self.token_ids) ** length_penalty)


@dataclass
class BeamSearch:
    """The search after one prompt, text or ids. Raises `InvalidRequestError` where the model cannot do it."""

    prompt: str | list[int]
    params: BeamSearchParams
    model: BeamModel
    _running: list[Beam] = field(default_factory=lambda: [Beam()])
    _finished: list[Beam] = field(default_factory=list)
    _first: RequestOutput | None = None
    """The engine's answer after the bare prompt."""

    def __post_init__(self) -> None:
        text_params = self.params.text_params()
        check_stop_strings(text_params)
        check_logprobs(text_params, self.model.max_logprobs, self.model.vocab_size)
        check_vocabulary(text_params, self.model.vocab_size)
        limit = self.model.max_logprobs
        if limit != -1 and self._num_candidates > limit:
            raise InvalidRequestError(
                f"the beam width (n) must be at most {limit // 2}, got {self.params.beam_width}: twice as many "
                f"logprobs are needed at each step, and --max-logprobs is {limit}",
                param="n",
            )

    @property
    def is_done(self) -> bool:
        return not self._running

    @property
    def num_tokens(self) -> int:
        """Of all answers that have ended."""
        return sum(len(beam.token_ids) for beam in self._finished)

    @property
    def step_params(self) -> SamplingParams:
        """What to ask the engine for each of `prompts`."""
        asked = self.params.logprobs
        num_logprobs = -1 if asked == -1 else max(self._num_candidates, asked or 0)
        return SamplingParams(
            temperature=0.0,
            max_tokens=1,
            ignore_eos=True,
            detokenize=False,
            logprobs=num_logprobs,
            prompt_logprobs=self.params.prompt_logprobs if self._first is None else None,
            output_kind=OutputKind.FINAL_ONLY,
        )

    def prompts(self) -> list[str | list[int]]:
        """What the engine is to continue by one token each; the first time the prompt itself."""
        if self._first is None:
            return [self.prompt]
        return [[*self._first.prompt_token_ids, *beam.token_ids] for beam in self._running]

    def advance(self, outputs: list[RequestOutput]) -> None:
        """Take the engine's outputs of all `prompts`, in their order."""
        self._first = self._first or outputs[0]
        candidates = [
            candidate
            for beam, output in zip(self._running, outputs, strict=True)
            for candidate in self._candidates(beam, output.outputs[0].logprobs or [])
        ]
        candidates.sort(key=lambda beam: -beam.cumulative_logprob)
        self._running = []
        for candidate in candidates:
            if self._ends_by_token(candidate):
                self._end_by_token(candidate)
            elif len(self._running) < self.params.beam_width:
                self._keep(candidate)
        self._finished = self._ranked()
        if self._has_ended():
            self._running = []

    def output(self, request_id: str) -> RequestOutput:
        """The `beam_width` best answers, best first, once `is_done`."""
        assert self._first is not None
        return RequestOutput(
            request_id=request_id,
            prompt=self.prompt if isinstance(self.prompt, str) else None,
            prompt_token_ids=self._first.prompt_token_ids,
            outputs=[self._answer(index, beam) for index, beam in enumerate(self._finished)],
            finished=True,
            prompt_logprobs=self._first.prompt_logprobs,
            num_cached_tokens=self._first.num_cached_tokens,
        )

    @property
    def _num_candidates(self) -> int:
        """Tokens that are looked at after each beam."""
        return min(2 * self.params.beam_width, self.model.vocab_size)

    @property
    def _max_tokens(self) -> int:
        assert self._first is not None
        room = self.model.max_model_len - len(self._first.prompt_token_ids)
        return room if self.params.max_tokens is None else min(self.params.max_tokens, room)

    def _candidates(self, beam: Beam, positions: list[PositionLogprobs]) -> list[Beam]:
        """`beam` with each of its likeliest next tokens."""
        (position,) = positions
        kept: list[Beam] = []
        for token_id, logprob in list(position.items())[: self._num_candidates]:
            if logprob.logprob > -float("inf"):
                total = beam.cumulative_logprob + logprob.logprob
                told = (
                    () if self.params.logprobs is None else (_chosen_first(position, token_id, self.params.logprobs),)
                )
                kept.append(Beam((*beam.token_ids, token_id), (*beam.logprobs, *told), total))
        return kept

    def _ends_by_token(self, beam: Beam) -> bool:
        last = beam.token_ids[-1]
        is_eos = last in self.model.eos_token_ids and not self.params.ignore_eos
        return is_eos or last in self.params.stop_token_ids

    def _end_by_token(self, beam: Beam) -> None:
        """As elsewhere, EOS gives no stop reason, and an end before `min_tokens` is none: that text is dropped."""
        if len(beam.token_ids) > self.params.min_tokens:
            last = beam.token_ids[-1]
            self._finish(beam, "stop", last if last in self.params.stop_token_ids else None)

    def _keep(self, beam: Beam) -> None:
        """Follow it, unless a stop string or the number of tokens has ended it."""
        stop = self._read(beam)[1] if self.params.stop else None
        if stop is not None:
            self._finish(beam, "stop", stop)
        elif len(beam.token_ids) >= self._max_tokens:
            self._finish(beam, "length", None)
            if len(self._finished) > 4 * self.params.beam_width:
                self._finished = self._ranked()
        else:
            self._running.append(beam)

    def _finish(self, beam: Beam, reason: str, stop_reason: int | str | None) -> None:
        ended = Beam(beam.token_ids, beam.logprobs, beam.cumulative_logprob, reason, stop_reason)
        self._finished.append(ended)

    def _ranked(self) -> list[Beam]:
        """The best finished ones; no more are ever needed."""
        penalty = self.params.length_penalty
        return sorted(self._finished, key=lambda beam: -beam.score(penalty))[: self.params.beam_width]

    def _has_ended(self) -> bool:
        """Enough have finished, and (unless that is enough) no running text can still overtake the worst of them.

        A sum of logprobs only falls, so a running text's best score has its present sum and the length that suits
        the penalty best.
        """
        if not self._running or len(self._finished) < self.params.beam_width:
            return not self._running
        if self.params.early_stopping:
            return True
        penalty, best = self.params.length_penalty, self._running[0]
        length = self._max_tokens if penalty > 0 else len(best.token_ids) + 1
        return best.cumulative_logprob / float(length**penalty) <= self._finished[-1].score(penalty)

    def _read(self, beam: Beam) -> tuple[str, str | None]:
        """The answer's text, and the stop string that it holds."""
        detokenizer = Detokenizer(self.model.tokenizer, self._prompt_tail(), self.params.text_params())
        ends_with_stop_token = beam.finish_reason == "stop" and self._ends_by_token(beam)
        _, stop = detokenizer.push(beam.token_ids, ends_with_stop_token=ends_with_stop_token)
        if beam.finish_reason is not None and stop is None:
            detokenizer.finish()
        return detokenizer.text, stop

    def _prompt_tail(self) -> list[int]:
        assert self._first is not None
        return self._first.prompt_token_ids

    def _answer(self, index: int, beam: Beam) -> CompletionOutput:
        return CompletionOutput(
            index=index,
            text=self._read(beam)[0],
            token_ids=list(beam.token_ids),
            logprobs=None if self.params.logprobs is None else list(beam.logprobs),
            cumulative_logprob=beam.cumulative_logprob,
            finish_reason=beam.finish_reason,
            stop_reason=beam.stop_reason,
        )


def _chosen_first(position: PositionLogprobs, token_id: int, num_logprobs: int) -> PositionLogprobs:
    """What a sampled token's position would say: the token, then ranks 1, 2, ... up to `num_logprobs`."""
    ranked = list(position.items())
    best = ranked if num_logprobs == -1 else ranked[:num_logprobs]
    return {token_id: position[token_id], **dict(best)}
