"""A list of requests through the engine: all are added, then steps are run until all have ended. Or none runs on.

Knows neither chat templates nor how prompts were written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from msgspec.structs import replace

from kvik.engine_client.llm_engine import LLMEngine
from kvik.errors import EngineRequestError
from kvik.llm.progress import progress
from kvik.messages import LoraRequest
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.text.outputs import RequestOutput
from kvik.text.processor import DEFAULT_PROMPT_OPTIONS, PromptOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineRequest:
    """What the engine is told of one prompt."""

    prompt: str | list[int]
    params: SamplingParams
    cache_salt: str | None = None
    priority: int = 0
    lora: LoraRequest | None = None
    options: PromptOptions = DEFAULT_PROMPT_OPTIONS


class BatchRunner:
    """Runs lists of requests, one list after the other. Sole giver of request ids."""

    def __init__(self, engine: LLMEngine) -> None:
        self._engine = engine
        self._ids = count()
        self._known_loras: set[LoraRequest] = set()

    def next_id(self) -> str:
        return str(next(self._ids))

    def check_adapters(self, loras: Sequence[LoraRequest | None]) -> None:
        """Raises `InvalidRequestError` for one that cannot be used. Each is read once; later it may be read again."""
        for lora in dict.fromkeys(lora for lora in loras if lora is not None):
            if lora not in self._known_loras:
                self._engine.add_lora(lora)
                self._known_loras.add(lora)

    def run(self, requests: Sequence[OfflineRequest], *, use_tqdm: bool = False) -> list[RequestOutput]:
        """The finished outputs of `requests`, in their order.

        Raises `InvalidRequestError` before anything runs, or `EngineRequestError`; nothing keeps running then.
        """
        try:
            ids = [self._add(request) for request in requests]
            done = self._finish(len(ids), use_tqdm)
        except BaseException:
            self._engine.abort_all()
            raise
        return [done[request_id] for request_id in ids]

    def _add(self, request: OfflineRequest) -> str:
        request_id = self.next_id()
        self._engine.add_request(
            request_id,
            request.prompt,
            replace(request.params, output_kind=OutputKind.FINAL_ONLY),
            priority=request.priority,
            cache_salt=request.cache_salt,
            options=request.options,
            lora=request.lora,
        )
        return request_id

    def _finish(self, num_requests: int, use_tqdm: bool) -> dict[str, RequestOutput]:
        done: dict[str, RequestOutput] = {}
        with progress(num_requests, use_tqdm) as advance:
            while self._engine.has_unfinished_requests:
                for output in self._engine.step():
                    if isinstance(output, EngineRequestError):
                        raise output
                    if output.finished:
                        done[output.request_id] = output
                        advance(sum(len(answer.token_ids) for answer in output.outputs))
        return done
