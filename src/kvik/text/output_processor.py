"""What the engine sends -> what the caller reads: `StepOutputs` in, `RequestOutput`s out.

Sole owner of the open requests' texts. Knows no sockets, no queues and no event loop: its caller hands the outputs on
and tells the engine which requests to abort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from kvik.errors import ConstraintError, EngineRequestError
from kvik.messages import FinishReason, NewRequest, Resumed, StepOutputs, TokenDelta, TokenLogprobs
from kvik.sampling_params import OutputKind
from kvik.telemetry.log import get_logger
from kvik.telemetry.request_times import RequestTimes
from kvik.telemetry.stats import IterationStats
from kvik.text.answer import Answer
from kvik.text.logprobs import LogprobDecoder
from kvik.text.outputs import CompletionOutput, PositionLogprobs, RequestOutput
from kvik.text.processor import ProcessedRequest
from kvik.text.tokenizer import Tokenizer

logger = get_logger(__name__)


@dataclass(slots=True)
class ProcessedStep:
    """What one step means for the callers."""

    outputs: list[tuple[str, RequestOutput | EngineRequestError]] = field(default_factory=list)
    """By internal id of the request; at most one per answer. An error is the request's last word."""
    aborts: list[str] = field(default_factory=list)
    """Engine requests that are to end: a stop string was found, or their request failed."""
    stats: IterationStats = field(default_factory=IterationStats)


@dataclass(slots=True)
class _OpenRequest:
    request: ProcessedRequest
    stream_interval: int
    answers: list[Answer]
    num_open: int
    prompt_logprobs: list[PositionLogprobs | None] = field(default_factory=list)
    num_unsent_tokens: list[int] = field(default_factory=list)
    """By answer: tokens since its last output."""
    sent_prompt_logprobs: bool = False


class OutputProcessor:
    """All open requests of one engine. `stream_interval` is the server's: tokens per output of a stream."""

    def __init__(self, tokenizer: Tokenizer | None, stream_interval: int = 1) -> None:
        self._tokenizer = tokenizer
        self._stream_interval = stream_interval
        self._logprob_decoder = LogprobDecoder(None if tokenizer is None else tokenizer.backend)
        self._requests: dict[str, _OpenRequest] = {}
        self._answers: dict[str, tuple[_OpenRequest, Answer]] = {}
        """By the engine's request id."""

    @property
    def num_open(self) -> int:
        return len(self._requests)

    def internal_ids(self, is_meant: Callable[[str], bool] = lambda request_id: True) -> list[str]:
        """Open requests by what the caller calls them; all of them."""
        return [i for i, r in self._requests.items() if is_meant(r.request.request_id)]

    def add_request(
        self,
        request: ProcessedRequest,
        stream_interval: int = 1,
        *,
        queued_s: float = 0.0,
        waiting_for: str | None = None,
    ) -> list[RequestTimes]:
        """Expect outputs of `request`. Its own `stream_interval` can only raise the server's.

        `queued_s`: when it was ready for the engine, 0: when it came there; `waiting_for`: what keeps it from there.
        Returns the live records of its answers.
        """
        answers = [
            Answer(
                index,
                child.request_id,
                request.prompt_token_ids,
                child.sampling_params,
                request.arrival_time_s,
                self._tokenizer,
                self._logprob_decoder,
            )
            for index, child in enumerate(request.engine_requests)
        ]
        interval = max(self._stream_interval, stream_interval)
        entry = _OpenRequest(request, interval, answers, len(answers), num_unsent_tokens=[0] * len(answers))
        self._requests[request.internal_id] = entry
        self._answers |= {answer.engine_id: (entry, answer) for answer in answers}
        for answer in answers:
            answer.times.queued_s, answer.times.waiting_for = queued_s, waiting_for
        return [answer.times for answer in answers]

    def open_answers(self) -> list[tuple[ProcessedRequest, Answer]]:
        """All that have not ended, in the order that they came."""
        return [(entry.request, answer) for entry, answer in self._answers.values()]

    @property
    def engine_ids(self) -> list[str]:
        """Of all open answers."""
        return list(self._answers)

    def resumable(self) -> list[tuple[str, list[NewRequest]]]:
        """Internal id and open answers of each open request, as an engine must be told that does not know them."""
        return [
            (internal_id, [_resumed(entry, answer) for answer in entry.answers if answer.finish_reason is None])
            for internal_id, entry in self._requests.items()
        ]

    def fail(self, engine_id: str, error: EngineRequestError) -> ProcessedStep:
        """End the request that an answer belongs to with an error. Unknown ids are ignored."""
        result = ProcessedStep()
        if (found := self._answers.get(engine_id)) is not None:
            self._fail(found[0], error, result)
        return result

    def process(self, step: StepOutputs) -> ProcessedStep:
        """Take one step's outputs. Whatever goes wrong with one request ends that request only."""
        result = ProcessedStep()
        for delta in step.deltas:
            found = self._answers.get(delta.request_id)
            if found is None:
                continue  # ended here before the engine knew
            entry, answer = found
            try:
                output = self._update(entry, answer, delta, step.time_s, result)
            except EngineRequestError as error:
                self._fail(entry, error, result)
            except Exception as error:
                logger.exception("request %s failed in the detokenizer", entry.request.request_id)
                self._fail(entry, EngineRequestError(f"the answer could not be decoded: {error}"), result)
            else:
                if output is not None:
                    result.outputs.append((entry.request.internal_id, output))
        return result

    def abort(self, internal_ids: Iterable[str]) -> ProcessedStep:
        """End requests from outside; each gets a last output with finish reason "abort". Unknown ids are ignored."""
        result = ProcessedStep()
        for internal_id in internal_ids:
            if (entry := self._requests.get(internal_id)) is None:
                continue
            for answer in entry.answers:
                if answer.finish_reason is None:
                    answer.end(FinishReason.ABORT)
                    result.aborts.append(answer.engine_id)
                    self._close(entry, answer, result.stats)
                    output = self._output(entry, answer)
                    if output is not None:
                        result.outputs.append((internal_id, output))
        return result

    def _update(
        self, entry: _OpenRequest, answer: Answer, delta: TokenDelta, step_time_s: float, result: ProcessedStep
    ) -> RequestOutput | None:
        if delta.finish_reason == FinishReason.ERROR:
            if delta.error_param is not None:
                raise ConstraintError(delta.error or "the request's demands cannot be met", param=delta.error_param)
            raise EngineRequestError(delta.error or "the engine gave no reason")
        if delta.new_prompt_logprobs is not None:
            self._add_prompt_logprobs(entry, delta.new_prompt_logprobs)
        num_tokens_before = answer.num_tokens
        if answer.update(delta, step_time_s, result.stats):
            result.aborts.append(answer.engine_id)
        entry.num_unsent_tokens[answer.index] += answer.num_tokens - num_tokens_before
        if answer.finish_reason is not None:
            self._close(entry, answer, result.stats)
        elif not self._is_due(entry, answer):
            return None
        return self._output(entry, answer)

    def _is_due(self, entry: _OpenRequest, answer: Answer) -> bool:
        """Whether an answer that goes on is to be shown: its first token at once, then every so many."""
        if entry.request.params.output_kind == OutputKind.FINAL_ONLY:
            return False
        num_unsent = entry.num_unsent_tokens[answer.index]
        return num_unsent > 0 and (num_unsent == answer.num_tokens or num_unsent >= entry.stream_interval)

    def _output(self, entry: _OpenRequest, answer: Answer) -> RequestOutput | None:
        """The news about this answer; with FINAL_ONLY, about all of them once the last one has ended."""
        kind = entry.request.params.output_kind
        if kind == OutputKind.FINAL_ONLY:
            return self._request_output(entry, [a.take_output() for a in entry.answers]) if not entry.num_open else None
        entry.num_unsent_tokens[answer.index] = 0
        return self._request_output(entry, [answer.take_output()])

    def _request_output(self, entry: _OpenRequest, outputs: list[CompletionOutput]) -> RequestOutput:
        request = entry.request
        return RequestOutput(
            request_id=request.request_id,
            prompt=request.prompt,
            prompt_token_ids=request.prompt_token_ids,
            outputs=outputs,
            finished=entry.num_open == 0,
            prompt_logprobs=_prompt_logprobs(entry),
            num_cached_tokens=max([a.num_cached_tokens for a in entry.answers]),
            times=[a.times for a in entry.answers],
        )

    def _add_prompt_logprobs(self, entry: _OpenRequest, stretch: list[TokenLogprobs | None]) -> None:
        ids = entry.request.prompt_token_ids
        for position in stretch:
            at = len(entry.prompt_logprobs)
            decoded = None if position is None else self._logprob_decoder.position(ids[max(0, at - 8) : at], position)
            entry.prompt_logprobs.append(decoded)

    def _close(self, entry: _OpenRequest, answer: Answer, stats: IterationStats) -> None:
        """Book an answer that has ended, and its request if it was the last one."""
        del self._answers[answer.engine_id]
        entry.num_open -= 1
        stats.finished.append(answer.finish_times())
        if entry.num_open == 0:
            del self._requests[entry.request.internal_id]
            stats.finished_n.append(len(entry.answers))
            stats.finished_max_generation_tokens.append(max(a.num_tokens for a in entry.answers))

    def _fail(self, entry: _OpenRequest, error: EngineRequestError, result: ProcessedStep) -> None:
        """End a whole request with an error. Nothing here may depend on the state of its text."""
        for answer in entry.answers:
            if self._answers.get(answer.engine_id) is not None:
                answer.finish_reason = FinishReason.ERROR
                result.aborts.append(answer.engine_id)
                self._close(entry, answer, result.stats)
        result.outputs.append((entry.request.internal_id, error))


def _resumed(entry: _OpenRequest, answer: Answer) -> NewRequest:
    request = entry.request.engine_requests[answer.index]
    num_prompt_logprobs = len(entry.prompt_logprobs) if request.sampling_params.prompt_logprobs is not None else 0
    if not answer.num_tokens and not num_prompt_logprobs:
        return request
    return replace(request, resumed=Resumed(answer.token_ids, num_prompt_logprobs))


def _prompt_logprobs(entry: _OpenRequest) -> list[PositionLogprobs | None] | None:
    """Those of the whole prompt, once they are there; only once where outputs hold only what is new."""
    params = entry.request.params
    if params.prompt_logprobs is None or len(entry.prompt_logprobs) != len(entry.request.prompt_token_ids):
        return None
    if params.output_kind == OutputKind.DELTA and entry.sent_prompt_logprobs:
        return None
    entry.sent_prompt_logprobs = True
    return list(entry.prompt_logprobs)
