"""One HTTP request's sequences in the engine: opened together, read together, closed together.

Knows no schema. A prompt is one engine request; `n` is the engine client's matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kvik.engine_client.admission.ticket import Ticket
from kvik.engine_client.answer_choice import AnswerChoice, ChoosingClient
from kvik.engine_client.stream import close_all
from kvik.errors import EngineRequestError
from kvik.messages import LoraRequest
from kvik.sampling_params import SamplingParams
from kvik.server.request_id import engine_request_id
from kvik.server.responses import settle
from kvik.telemetry.request_times import RequestTimes
from kvik.text.outputs import RequestOutput
from kvik.text.processor import Prompt, PromptOptions

if TYPE_CHECKING:
    from kvik.engine_client.protocol import EngineClient, OutputStream

OnClose = Callable[[Sequence[Sequence[RequestTimes]]], None]

_ADDED_AT_ONCE = 8
"""Prompts of one request that are handed over between two turns of the event loop: a millisecond."""


class News(NamedTuple):
    """What the engine has to say about one prompt of the request."""

    prompt_index: int
    output: RequestOutput


@dataclass(frozen=True, kw_only=True)
class EngineCall:
    """What of a request the engine is told."""

    prompts: Sequence[str | list[int]]
    params: SamplingParams
    request_id: str
    priority: int = 0
    cache_salt: str | None = None
    options: PromptOptions
    stream_interval: int = 1
    lora: LoraRequest | None = None
    """The adapter; None: the model itself."""
    choice: AnswerChoice | None = None
    """How the answers are chosen among more; None: they are all that there are."""


class Generation:
    """The open streams of one HTTP request, one per prompt."""

    def __init__(self, streams: Sequence[OutputStream], on_close: OnClose = lambda prompts: None) -> None:
        """`on_close` hears once what became of the sequences of each prompt, and when."""
        self._streams = streams
        self._on_close: OnClose | None = on_close

    @classmethod
    async def start(
        cls,
        client: EngineClient,
        call: EngineCall,
        ticket: Ticket | None = None,
        on_close: OnClose = lambda prompts: None,
    ) -> Generation:
        """Raises what `add_request` raises; then nothing of the request is left in the engine."""
        adding = client if call.choice is None else ChoosingClient(client, call.choice)
        streams: list[OutputStream] = []
        generation = cls(streams, on_close)
        try:
            is_bulk = len(call.prompts) > 1 and call.choice is None
            prompts: Sequence[Prompt] = await client.tokenize(call.prompts, call.options) if is_bulk else call.prompts
            for i, prompt in enumerate(prompts):
                if i % _ADDED_AT_ONCE == _ADDED_AT_ONCE - 1:
                    await asyncio.sleep(0)  # streams of others have their turn
                name = engine_request_id(call.request_id, i, len(call.prompts))
                streams.append(
                    await adding.add_request(
                        prompt, call.params, name, priority=call.priority, cache_salt=call.cache_salt,
                        options=call.options, stream_interval=call.stream_interval, lora=call.lora, ticket=ticket,
                    )
                )  # fmt: skip
        except BaseException:
            await generation.close()
            raise
        return generation

    async def close(self) -> None:
        """Free everything in the engine; harmless after the end."""
        try:
            await close_all(self._streams)
        finally:
            on_close, self._on_close = self._on_close, None
            if on_close is not None:
                on_close([stream.times for stream in self._streams])

    async def collect(self) -> list[RequestOutput]:
        """The last output of each prompt, in order of the prompts."""
        finals: list[RequestOutput | None] = [None] * len(self._streams)
        async for batch in self.batches():
            for news in batch:
                finals[news.prompt_index] = news.output
        return [_finished(output) for output in finals]

    def batches(self) -> AsyncIterator[list[News]]:
        """News as they come; what is ready at once comes at once."""
        return self._single() if len(self._streams) == 1 else self._merged()

    async def _single(self) -> AsyncIterator[list[News]]:
        async for output in self._streams[0]:
            yield [News(0, check_output(output))]

    async def _merged(self) -> AsyncIterator[list[News]]:
        # Room for one step's news; what does not fit is merged in the streams.
        queue: asyncio.Queue[News | Exception | None] = asyncio.Queue(2 * len(self._streams))
        pumps = [asyncio.ensure_future(_pump(i, s, queue)) for i, s in enumerate(self._streams)]
        num_open = len(pumps)
        try:
            while num_open:
                batch: list[News] = []
                item = await queue.get()
                while True:
                    if isinstance(item, Exception):
                        raise item
                    if item is None:
                        num_open -= 1
                    else:
                        batch.append(item)
                    if queue.empty():
                        break
                    item = queue.get_nowait()
                if batch:
                    yield batch
        finally:
            await settle(*pumps)


async def _pump(index: int, stream: OutputStream, queue: asyncio.Queue[News | Exception | None]) -> None:
    try:
        async for output in stream:
            await queue.put(News(index, check_output(output)))
    except Exception as error:
        await queue.put(error)
    else:
        await queue.put(None)


def check_output(output: RequestOutput) -> RequestOutput:
    """`output` itself; an answer that ended with an error becomes the exception that the client is told of."""
    for answer in output.outputs:
        if answer.finish_reason == "error":
            raise EngineRequestError("the engine could not finish this request")
    return output


def _finished(output: RequestOutput | None) -> RequestOutput:
    if output is None:
        raise EngineRequestError("the engine gave no output for this request")
    return output
