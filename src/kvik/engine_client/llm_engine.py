"""The same engine without a wall: requests in, one step at a time, outputs out. Synchronous; for the offline door."""

from __future__ import annotations

from typing import Any, Protocol

from kvik.config import EngineConfig
from kvik.errors import EngineRequestError, InvalidRequestError
from kvik.messages import EngineFacts, LoraRequest, NewRequest, StepOutputs
from kvik.sampling_params import SamplingParams
from kvik.text.output_processor import OutputProcessor, ProcessedStep
from kvik.text.outputs import RequestOutput
from kvik.text.processor import DEFAULT_PROMPT_OPTIONS, Processor, PromptOptions
from kvik.text.tokenizer import Tokenizer


class SyncEngineCoreClient(Protocol):
    """What `LLMEngine` needs of an engine that runs in this process."""

    def add_request(self, request: NewRequest) -> None: ...

    def abort(self, request_ids: list[str]) -> None: ...

    def step(self) -> StepOutputs | None:
        """Run one step; None when there is nothing to do."""

    def utility(self, method: str, args: list[Any]) -> Any: ...


class LLMEngine:
    """Open requests by their id, which the caller keeps unique."""

    def __init__(
        self,
        config: EngineConfig,
        client: SyncEngineCoreClient,
        facts: EngineFacts,
        tokenizer: Tokenizer | None,
    ) -> None:
        self.config = config
        self.facts = facts
        self.tokenizer = tokenizer
        self._client = client
        self._processor = Processor(config.model, tokenizer, facts.max_model_len, config.structured_outputs)
        self._output_processor = OutputProcessor(tokenizer, config.scheduler.stream_interval)

    @property
    def has_unfinished_requests(self) -> bool:
        return self._output_processor.num_open > 0

    def add_request(
        self,
        request_id: str,
        prompt: str | list[int],
        sampling_params: SamplingParams,
        *,
        priority: int = 0,
        cache_salt: str | None = None,
        options: PromptOptions = DEFAULT_PROMPT_OPTIONS,
        lora: LoraRequest | None = None,
    ) -> None:
        """Raises `InvalidRequestError` before anything is handed on."""
        request = self._processor.process(
            prompt, sampling_params, request_id, priority=priority, cache_salt=cache_salt, options=options, lora=lora
        )
        self._output_processor.add_request(request)
        for engine_request in request.engine_requests:
            self._client.add_request(engine_request)

    def step(self) -> list[RequestOutput | EngineRequestError]:
        """Run one step of the engine; an error is the last word of a request that failed, the others go on."""
        step = self._client.step()
        if step is None:
            return []
        return self._take(self._output_processor.process(step))

    def abort_request(self, request_id: str) -> list[RequestOutput | EngineRequestError]:
        """End a request; returns its last outputs, with finish reason "abort". Unknown ids are ignored."""
        return self._take(self._output_processor.abort(self._output_processor.internal_ids(request_id.__eq__)))

    def abort_all(self) -> None:
        self._take(self._output_processor.abort(self._output_processor.internal_ids()))

    def add_lora(self, lora: LoraRequest) -> None:
        """Read an adapter before requests use it. Raises `InvalidRequestError` with what is wrong with it."""
        problem = self._client.utility("add_lora", [lora.lora_name, lora.lora_int_id, lora.lora_path])
        if problem is not None:
            raise InvalidRequestError(str(problem), param="lora_request")

    def reset_prefix_cache(self) -> bool:
        """Forget all cached blocks; False while requests hold blocks."""
        return bool(self._client.utility("reset_prefix_cache", []))

    def _take(self, processed: ProcessedStep) -> list[RequestOutput | EngineRequestError]:
        if processed.aborts:
            self._client.abort(processed.aborts)
        return [output for _, output in processed.outputs]
