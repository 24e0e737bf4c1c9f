"""POST /inference/v1/generate: token ids in, token ids (or text) out, whole or as a stream. Knows no template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams
from kvik.server.body import read_model
from kvik.server.disconnect import unless_disconnected
from kvik.server.generation import EngineCall, News
from kvik.server.generation_start import start_generation
from kvik.server.logprobs import chat_logprobs, prompt_logprobs
from kvik.server.request_id import priority_of, request_id_base
from kvik.server.request_log import RequestLog
from kvik.server.responses import event, json_response
from kvik.server.scale_out.protocol import GenerateRequest, check_built, in_sampling_terms, read_sampling_params
from kvik.server.state import state_of
from kvik.server.streaming import stream_response
from kvik.server.usage import StreamUsage, UsageCounter, stream_usage
from kvik.text.outputs import CompletionOutput, PositionLogprobs, RequestOutput
from kvik.text.processor import PromptOptions


async def generate(request: Request) -> Response:
    """Continue token ids. All that is wrong with them is said before a stream starts."""
    state = state_of(request)
    body = await read_model(request, GenerateRequest, state.limits)
    model = state.check_model(body.model)
    check_built(body)
    params = read_sampling_params(body, state.limits)
    state.limits.check_sequences(1, params.n)
    request_id = request_id_base(request, body.request_id, state.limits)
    call = _engine_call(body, params, request_id, priority_of(request, body.priority))
    log = RequestLog(state.config)
    try:
        generation = await start_generation(request, call, log)
    except InvalidRequestError as error:
        raise in_sampling_terms(error) from None
    answer = GenerateAnswerWriter(body, params, request_id, model, state.config.enable_prompt_tokens_details)
    if body.stream:
        usage = stream_usage(body.stream_options, state.config, body.return_timings)
        return stream_response(generation, GenerateStream(answer, log, usage), state.config.sse_keep_alive_interval)
    try:
        (output,) = await unless_disconnected(request.receive, generation.collect())
    finally:
        await generation.close()
    for one in output.outputs:
        log.generated(request_id, one)
    return json_response(answer.whole(output))


def _engine_call(body: GenerateRequest, params: SamplingParams, request_id: str, priority: int) -> EngineCall:
    return EngineCall(
        prompts=[body.token_ids],
        params=params,
        request_id=request_id,
        priority=priority,
        cache_salt=body.cache_salt,
        options=PromptOptions(),
    )


@dataclass(frozen=True, slots=True)
class GenerateAnswerWriter:
    """What the parts of one answer share."""

    body: GenerateRequest
    params: SamplingParams
    request_id: str
    model: str
    with_usage_details: bool

    def whole(self, output: RequestOutput) -> dict[str, Any]:
        usage = UsageCounter(self.with_usage_details, self.body.return_timings)
        usage.add(0, output, self.params.n)
        return {
            "request_id": self.request_id,
            "model": self.model,
            "choices": [self.choice(answer) for answer in output.outputs],
            "prompt_token_ids": output.prompt_token_ids if self.body.return_token_ids else None,
            "prompt_logprobs": prompt_logprobs(output.prompt_logprobs),
            "usage": usage.total(),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
        }

    def choice(self, answer: CompletionOutput) -> dict[str, Any]:
        return {
            "index": answer.index,
            "token_ids": answer.token_ids if self.body.has_token_ids else None,
            "text": answer.text if self.body.has_text else None,
            "logprobs": self._logprobs(answer.logprobs),
            "finish_reason": answer.finish_reason,
            "stop_reason": answer.stop_reason,
        }

    def _logprobs(self, positions: Sequence[PositionLogprobs] | None) -> dict[str, Any] | None:
        if positions is None:
            return None
        wanted_ids = self.params.logprob_token_ids or ()
        return chat_logprobs(positions, self.params.logprobs or 0, not self.body.has_text, wanted_ids)


class GenerateStream:
    """The chunks of a streamed answer; see `streaming.ChunkWriter`."""

    def __init__(self, answer: GenerateAnswerWriter, log: RequestLog, usage: StreamUsage) -> None:
        self._answer = answer
        self._log = log
        self._usage = usage
        self._counter = UsageCounter(answer.with_usage_details, answer.body.return_timings)

    def chunks(self, news: News) -> bytes:
        self._counter.add(0, news.output, self._answer.params.n)
        for answer in news.output.outputs:
            self._log.streamed(self._answer.request_id, answer)
        return b"".join([self._chunk(news.output, answer) for answer in news.output.outputs])

    def last(self) -> bytes:
        if not self._usage.at_end:
            return b""
        return event({"request_id": self._answer.request_id, "choices": [], "usage": self._counter.streamed_total()})

    def _chunk(self, output: RequestOutput, answer: CompletionOutput) -> bytes:
        chunk: dict[str, Any] = {"request_id": self._answer.request_id, "choices": [self._answer.choice(answer)]}
        if self._answer.body.return_token_ids:
            chunk["prompt_token_ids"] = output.prompt_token_ids
        if self._usage.in_every_chunk:
            chunk["usage"] = self._counter.streamed_of_choice(answer.index, 0)
        return event(chunk)
