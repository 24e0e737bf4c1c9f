"""Streams whose answers are chosen among more: beam search, and the best of several samples. One output, at the end.

Over any `EngineClient`; whoever reads the stream needs to know nothing of it. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as dataclass_replace
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from kvik.engine_client.admission.ticket import Ticket
from kvik.engine_client.beam_search import BeamModel, BeamSearch
from kvik.engine_client.stream import close_all
from kvik.errors import EngineRequestError
from kvik.sampling_params import BeamSearchParams, SamplingParams
from kvik.telemetry.request_times import RequestTimes, joined
from kvik.text.outputs import RequestOutput
from kvik.text.processor import Prompt, TokenizedPrompt

if TYPE_CHECKING:
    from kvik.engine_client.protocol import EngineClient, OutputStream


@dataclass(frozen=True, slots=True)
class BestOf:
    """Sample `num_sampled` answers and return the `n` of the request that have the largest sum of logprobs."""

    num_sampled: int


AnswerChoice = BeamSearchParams | BestOf


class ChoosingClient:
    """An engine client whose `add_request` chooses. The keywords of `add_request` are handed on as they are."""

    def __init__(self, client: EngineClient, choice: AnswerChoice) -> None:
        self._client = client
        self._choice = choice

    async def add_request(
        self, prompt: Prompt, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> OutputStream:
        """Raises what the client's `add_request` raises; nothing of the request is left in the engine then."""
        if isinstance(self._choice, BestOf):
            return await self._best_of(self._choice, prompt, sampling_params, request_id, options)
        content = prompt.token_ids if isinstance(prompt, TokenizedPrompt) else prompt
        model = BeamModel.of(self._client.config, self._client.facts, self._client.tokenizer)
        stream = BeamStream(self._client, BeamSearch(content, self._choice, model), request_id, options)
        await stream.start()
        return stream

    async def _best_of(
        self, choice: BestOf, prompt: Prompt, params: SamplingParams, request_id: str, options: dict[str, Any]
    ) -> OutputStream:
        logprobs = 0 if params.logprobs is None else params.logprobs
        sampled = replace(params, n=choice.num_sampled, logprobs=logprobs)
        stream = await self._client.add_request(prompt, sampled, request_id, **options)
        return BestOfStream(stream, params)


class BestOfStream:
    """The `n` best answers of a stream with more of them, as `OutputStream`. `params` are what was asked."""

    def __init__(self, stream: OutputStream, params: SamplingParams) -> None:
        self._stream = stream
        self._params = params

    @property
    def times(self) -> Sequence[RequestTimes]:
        return self._stream.times

    def __aiter__(self) -> AsyncIterator[RequestOutput]:
        return self

    async def __anext__(self) -> RequestOutput:
        return best_of(await self._stream.__anext__(), self._params)

    async def aclose(self) -> None:
        await self._stream.aclose()


def best_of(output: RequestOutput, params: SamplingParams) -> RequestOutput:
    """Keep the `params.n` answers with the largest sum of logprobs, best first. `output` may be changed."""
    answers = sorted(output.outputs, key=lambda answer: -(answer.cumulative_logprob or 0.0))[: params.n]
    for index, answer in enumerate(answers):
        answer.index = index
        if params.logprobs is None:
            answer.logprobs = None
    output.outputs = answers
    return output


class BeamStream:
    """One beam search as `OutputStream`: a single output with all answers."""

    def __init__(self, client: EngineClient, search: BeamSearch, request_id: str, options: dict[str, Any]) -> None:
        self._client = client
        self._search = search
        self._request_id = request_id
        self._options = options
        self._open: list[OutputStream] = []
        """Of the step that runs."""
        self.times: list[RequestTimes] = []
        """Of all beams of all steps so far."""
        self._is_read = self._is_closed = False
        self._num_steps = 0

    async def start(self) -> None:
        """Hand the first step to the engine, so that a bad prompt is refused here."""
        try:
            await self._send_step()
        except BaseException:
            await self.aclose()
            raise

    def __aiter__(self) -> AsyncIterator[RequestOutput]:
        return self

    async def __anext__(self) -> RequestOutput:
        if self._is_read:
            raise StopAsyncIteration
        self._is_read = True
        try:
            while True:
                self._search.advance([await _last(stream) for stream in self._open])
                if self._search.is_done:
                    output = self._search.output(self._request_id)
                    output.times = [joined([self.times])]
                    return output
                await self._send_step()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Abort the step that runs; there will be no other. Cancelled meanwhile, it still closes all of them."""
        self._is_read = self._is_closed = True
        streams, self._open = self._open, []
        await close_all(streams)

    async def _send_step(self) -> None:
        """All beams at once: the engine computes them in one batch.

        Each stream is noted as soon as it is open, so that whoever is cancelled here can close them all. Raises
        `StopAsyncIteration` where somebody else has closed meanwhile.
        """
        params, options = self._search.step_params, self._options
        if self._num_steps:  # ids from here on, which the first step has cut and completed already
            options = {name: value for name, value in options.items() if name != "options"}
            options["ticket"] = _continued(options.get("ticket"))
        self._open = []
        for i, prompt in enumerate(self._search.prompts()):
            request_id = f"{self._request_id}-beam{self._num_steps}-{i}"
            stream = await self._client.add_request(prompt, params, request_id, **options)
            self.times += stream.times
            self._open.append(stream)  # a line of its own: `_open` may be another list after the await
            if self._is_closed:
                raise StopAsyncIteration
        self._num_steps += 1


def _continued(ticket: Ticket | None) -> Ticket:
    return Ticket(is_continued=True) if ticket is None else dataclass_replace(ticket, is_continued=True)


async def _last(stream: OutputStream) -> RequestOutput:
    last = None
    async for output in stream:
        last = output
    if last is None or last.outputs[0].finish_reason != "length":
        raise EngineRequestError("the engine could not finish this request")
    return last
