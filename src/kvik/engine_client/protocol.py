"""What the server asks of an engine, wherever it runs. `AsyncLLM` is the real one; tests bring a fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from kvik.config import EngineConfig
from kvik.engine_client.admission.ticket import Ticket
from kvik.engine_client.control import EngineControl
from kvik.engine_client.live_requests import LiveReport
from kvik.messages import EngineFacts, LoraRequest
from kvik.sampling_params import SamplingParams
from kvik.telemetry.ledger import Ledger
from kvik.telemetry.request_times import RequestTimes
from kvik.text.chat_template import ChatTemplate
from kvik.text.outputs import RequestOutput
from kvik.text.processor import Prompt, PromptOptions
from kvik.text.tokenizer import Tokenizer


class OutputStream(Protocol):
    """The outputs of one accepted request, in order, the last one with `finished` set.

    Iterating raises `EngineRequestError` when this request failed, `EngineDeadError` when the engine did.
    """

    @property
    def times(self) -> Sequence[RequestTimes]:
        """Live records of its answers so far. Read only."""

    def __aiter__(self) -> AsyncIterator[RequestOutput]: ...

    async def __anext__(self) -> RequestOutput: ...

    async def aclose(self) -> None:
        """Stop listening; what still runs is aborted. To be called when the client has gone; harmless after the end."""


class EngineClient(Protocol):
    """Requests in, streams of outputs out."""

    config: EngineConfig
    facts: EngineFacts
    tokenizer: Tokenizer
    chat_template: ChatTemplate
    ledger: Ledger
    """Who holds how much memory."""
    control: EngineControl
    """What operators do: pause, sleep, caches."""

    @property
    def is_dead(self) -> bool: ...

    @property
    def is_recovering(self) -> bool:
        """The engine has died and is not back yet."""

    async def tokenize(self, prompts: Sequence[Prompt], options: PromptOptions = ...) -> list[Prompt]:
        """The same prompts, texts being tokenized in bulk and off the event loop. Raises `InvalidRequestError`."""

    def check_hope(self, ticket: Ticket) -> None:
        """Raise `QueueFullError` for a request that would be refused whatever it asks, before it has cost anything."""

    async def add_request(
        self,
        prompt: Prompt,
        sampling_params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        cache_salt: str | None = None,
        options: PromptOptions = ...,
        stream_interval: int = 1,
        lora: LoraRequest | None = None,
        ticket: Ticket | None = None,
    ) -> OutputStream:
        """Check the request, hand it to the engine and return its outputs.

        All that a client can have done wrong is raised here, as `InvalidRequestError`, before anything is sent:
        a server can still answer with a status. `QueueFullError`, `OverloadedError` while shutting down,
        `EngineDeadError`. `ticket` says whose the request is and when it ends, and is told how it waits.
        """

    def generate(
        self,
        prompt: str | list[int],
        sampling_params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        cache_salt: str | None = None,
        options: PromptOptions = ...,
        stream_interval: int = 1,
        lora: LoraRequest | None = None,
    ) -> AsyncIterator[RequestOutput]:
        """`add_request` and its outputs in one async generator; closing the generator aborts the request."""

    async def abort(self, request_id: str, caller: str | None = None) -> int:
        """End the requests of this id, of one caller or of all, and say how many there were.

        Their streams end with reason "abort".
        """

    def abort_all(self) -> int:
        """End all requests, as `abort` does one; how many there were."""

    async def describe_requests(self) -> LiveReport:
        """All open sequences. Waits for the engine to say what it holds, a second at most."""

    async def check_health(self) -> None:
        """Raises `EngineDeadError` if the engine has died."""

    async def reset_prefix_cache(self) -> bool:
        """Forget all cached blocks; False while requests hold blocks."""

    async def utility(self, method: str, *args: Any) -> Any:
        """Call a method of the engine by its name. Raises `EngineError` with its failure, or `EngineDeadError`."""

    async def add_lora(self, lora: LoraRequest) -> str | None:
        """Have the engine read an adapter. None, or what is wrong with it."""

    async def remove_lora(self, lora: LoraRequest) -> None:
        """Free an adapter's place; requests that run with it go on."""

    async def shutdown(self, drain_timeout_s: float = 0.0) -> None:
        """Refuse new requests, let open ones go on for `drain_timeout_s`, end the rest and then the engine.

        Streams that are ended get what they have not read yet, and then an `OverloadedError`.
        """
