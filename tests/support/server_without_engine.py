"""A server without an engine: an engine client that answers from a script, over a tokenizer of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from fakes.fake_core_client import FakeCoreClient
from kvik.config import EngineConfig, ModelConfig
from kvik.config.frontend import ServerConfig
from kvik.engine_client.admission.ticket import Ticket
from kvik.engine_client.control import EngineControl
from kvik.engine_client.live_requests import LiveReport
from kvik.errors import EngineDeadError, QueueFullError
from kvik.messages import EngineFacts, LoraRequest
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.server.app import build_app, init_app_state
from kvik.server.state import ServerState
from kvik.telemetry.ledger import Ledger
from kvik.telemetry.request_times import RequestTimes
from kvik.text.chat_template import ChatTemplate
from kvik.text.outputs import CompletionOutput, Logprob, PositionLogprobs, RequestOutput
from kvik.text.processor import DEFAULT_PROMPT_OPTIONS, Processor, Prompt, PromptOptions, TokenizedPrompt

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MAX_MODEL_LEN = 200
VOCAB_SIZE = 258
EOS = 257


class ByteTokenizer:
    """A token per byte; 256 begins and 257 ends a text."""

    vocab_size = VOCAB_SIZE
    max_chars_per_token = 1
    bos_token, bos_token_id = "<s>", 256
    eos_token, eos_token_id = "</s>", EOS
    special_token_ids = frozenset({256, EOS})
    special_tokens: ClassVar = {"<s>": 256, "</s>": EOS}
    chat_template: str | None = TEMPLATE

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [256] * add_special_tokens + list(text.encode())

    def encode_batch(self, texts: list[str], add_special_tokens: bool = True) -> list[list[int]]:
        return [self.encode(text, add_special_tokens) for text in texts]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        special = {256: "<s>", EOS: "</s>"}
        text = b"".join(special[i].encode() * (not skip_special_tokens) if i > 255 else bytes([i]) for i in ids)
        return text.decode("utf-8", "replace")

    def id_to_token(self, token_id: int) -> str | None:
        return self.decode([token_id], skip_special_tokens=False) if self.has_id(token_id) else None

    def token_id(self, token: str) -> int | None:
        return self.special_tokens.get(token, ord(token) if len(token) == 1 and token.isascii() else None)

    def has_id(self, token_id: int) -> bool:
        return 0 <= token_id < VOCAB_SIZE


@dataclass
class Asked:
    """One call of `add_request`."""

    prompt: str | list[int]
    params: SamplingParams
    request_id: str
    priority: int
    cache_salt: str | None
    options: PromptOptions
    stream_interval: int
    lora: LoraRequest | None
    wanted: SamplingParams
    """As the server gave them; `params` is what the engine would get."""


@dataclass
class Script:
    """How the engine answers: pieces of text, then an end. `failure` is raised after the pieces."""

    pieces: Sequence[str] = ("Hel", "lo")
    finish_reason: str = "stop"
    stop_reason: int | str | None = None
    failure: Exception | None = None
    hold_after: int | None = None
    """Say nothing more after so many pieces, for ever."""
    num_cached_tokens: int = 0
    times: list[RequestTimes] = field(default_factory=lambda: [RequestTimes(1.0, 1.5, 2.0, 3.0, 5.0, 2.25, 5.0)])


class FakeStream:
    """The outputs of one request; remembers whether its reader left before the end."""

    def __init__(self, llm: FakeAsyncLLM, request_id: str, outputs: AsyncIterator[RequestOutput]) -> None:
        self._llm, self._request_id, self._outputs = llm, request_id, outputs
        self.times = llm.script.times
        self._has_ended = False

    def __aiter__(self) -> FakeStream:
        return self

    async def __anext__(self) -> RequestOutput:
        try:
            return await self._outputs.__anext__()
        except (StopAsyncIteration, EngineDeadError):
            self._has_ended = True
            raise

    async def aclose(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._llm.aborted.append(self._request_id)
            self._llm.news.set()


@dataclass
class FakeAsyncLLM:
    """Checks requests as the real one does; then every answer follows the script."""

    config: EngineConfig
    facts: EngineFacts
    tokenizer: ByteTokenizer = field(default_factory=ByteTokenizer)
    chat_template: ChatTemplate = field(default_factory=lambda: ChatTemplate(TEMPLATE))
    script: Script = field(default_factory=Script)
    asked: list[Asked] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    is_dead: bool = False
    is_recovering: bool = False
    live: LiveReport = field(default_factory=lambda: LiveReport("answered"))
    is_hopeless: bool = False
    """Nobody is taken."""
    ledger: Ledger = field(default_factory=Ledger)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request comes, or its reader leaves."""
    drained_with: float | None = None
    loras: list[LoraRequest] = field(default_factory=list)
    """Those that were added and not removed."""
    lora_problem: str | None = None
    """What `add_lora` finds wrong."""
    core: FakeCoreClient = field(default_factory=FakeCoreClient)

    def __post_init__(self) -> None:
        self.control = EngineControl(self.core, self.abort_all, may_sleep=self.config.model.enable_sleep_mode)

    async def tokenize(
        self, prompts: Sequence[Prompt], options: PromptOptions = DEFAULT_PROMPT_OPTIONS
    ) -> list[Prompt]:
        processor = Processor(self.config.model, self.tokenizer, MAX_MODEL_LEN)  # type: ignore[arg-type]
        return await processor.tokenize_async(prompts, options)

    async def utility(self, method: str, *args: Any) -> Any:
        return await self.core.utility(method, *args)

    def abort_all(self) -> int:
        self.aborted.append("*")
        return 2

    async def abort(self, request_id: str, caller: str | None = None) -> int:
        self.aborted.append(request_id)
        return int(request_id != "unknown")

    def check_hope(self, ticket: Ticket) -> None:
        if self.is_hopeless:
            raise QueueFullError("too many wait", retry_after_s=7)

    async def add_request(
        self,
        prompt: Prompt,
        sampling_params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        cache_salt: str | None = None,
        options: PromptOptions = DEFAULT_PROMPT_OPTIONS,
        stream_interval: int = 1,
        lora: LoraRequest | None = None,
        ticket: Ticket | None = None,
    ) -> FakeStream:
        processor = Processor(self.config.model, self.tokenizer, MAX_MODEL_LEN)  # type: ignore[arg-type]
        self.control.check_open()
        done = await processor.process_async(
            prompt, sampling_params, request_id, cache_salt=cache_salt, options=options
        )
        prompt = prompt.text if isinstance(prompt, TokenizedPrompt) else prompt
        self.asked.append(
            Asked(
                prompt, done.params, request_id, priority, cache_salt, options, stream_interval, lora, sampling_params
            )
        )
        self.news.set()
        text = prompt if isinstance(prompt, str) else None
        return FakeStream(self, request_id, self._outputs(request_id, text, done.prompt_token_ids, done.params))

    async def _outputs(
        self, request_id: str, prompt: str | None, ids: list[int], params: SamplingParams
    ) -> AsyncIterator[RequestOutput]:
        whole = params.output_kind == OutputKind.FINAL_ONLY
        pieces = ["".join(self.script.pieces)] if whole else list(self.script.pieces)
        for i, piece in enumerate(pieces):
            if i == self.script.hold_after or (whole and self.script.hold_after is not None):
                await asyncio.Event().wait()
            is_last = i == len(pieces) - 1 and self.script.failure is None
            yield RequestOutput(
                request_id=request_id,
                prompt=prompt,
                prompt_token_ids=ids,
                outputs=[self._answer(index, piece, params, is_last) for index in range(params.n)],
                finished=is_last,
                prompt_logprobs=prompt_positions(ids, params) if whole or i == 0 else None,
                num_cached_tokens=self.script.num_cached_tokens,
                times=self.script.times,
            )
        if self.script.failure is not None:
            raise self.script.failure

    def _answer(self, index: int, text: str, params: SamplingParams, is_last: bool) -> CompletionOutput:
        ids = list(text.encode())
        return CompletionOutput(
            index=index,
            text=text,
            token_ids=ids,
            logprobs=None if params.logprobs is None else [position(i, params.logprobs) for i in ids],
            finish_reason=self.script.finish_reason if is_last else None,
            stop_reason=self.script.stop_reason if is_last else None,
        )

    async def add_lora(self, lora: LoraRequest) -> str | None:
        if self.lora_problem is None:
            self.loras.append(lora)
        return self.lora_problem

    async def remove_lora(self, lora: LoraRequest) -> None:
        self.loras.remove(lora)

    async def describe_requests(self) -> LiveReport:
        return self.live

    async def check_health(self) -> None:
        if self.is_dead:
            raise EngineDeadError("dead")

    async def shutdown(self, drain_timeout_s: float = 0.0) -> None:
        self.drained_with = drain_timeout_s


def position(token_id: int, num_alternatives: int) -> PositionLogprobs:
    """The chosen token at rank 1; "a", "b", ... follow, "b" being impossible."""
    entries = {token_id: Logprob(-0.5, 1, bytes([token_id]).decode("latin-1") if token_id < 256 else "")}
    others = [(97, -1.5), (98, float("-inf"))][: max(0, num_alternatives - 1)]
    return entries | {i: Logprob(lp, rank, chr(i)) for rank, (i, lp) in enumerate(others, 2) if i != token_id}


def prompt_positions(ids: list[int], params: SamplingParams) -> list[PositionLogprobs | None] | None:
    if params.prompt_logprobs is None:
        return None
    return [None, *(position(i, params.prompt_logprobs) for i in ids[1:])]


def engine_config() -> EngineConfig:
    spec = ModelSpec(
        architecture="LlamaForCausalLM", vocab_size=VOCAB_SIZE, hidden_size=64, intermediate_size=64, num_layers=1,
        num_heads=2, num_kv_heads=1, head_dim=32, max_position_embeddings=MAX_MODEL_LEN,
        rms_norm_eps=1e-5, rope=RopeSpec(10000.0), eos_token_ids=(EOS,),
    )  # fmt: skip
    return EngineConfig(
        ModelConfig("/models/tiny", spec, tokenizer="/models/tiny", served_model_names=("tiny", "alias"))
    )


@dataclass
class Server:
    """The application, the fake behind it, and a client in front of it."""

    llm: FakeAsyncLLM
    state: ServerState
    http: TestClient

    def chat(self, **fields: Any) -> Any:
        body = {"messages": [{"role": "user", "content": "Hi"}], **fields}
        return self.http.post("/v1/chat/completions", json=body)

    def complete(self, **fields: Any) -> Any:
        return self.http.post("/v1/completions", json={"prompt": "Hi", **fields})


def make_server(**flags: Any) -> Server:
    facts = EngineFacts("cpu", "reference", 1, 0, 0, 100, 16, MAX_MODEL_LEN)
    llm = FakeAsyncLLM(engine_config(), facts)
    state = init_app_state(llm, ServerConfig(**flags))  # type: ignore[arg-type]
    app = build_app(state, CollectorRegistry())
    return Server(llm, state, TestClient(app, raise_server_exceptions=False))


def events_of(text: str) -> list[str]:
    """The data of server-sent events; comments are left out."""
    assert text.endswith("\n\n")
    events = [event for event in text.split("\n\n")[:-1] if not event.startswith(":")]
    assert all(event.startswith("data: ") for event in events)
    return [event.removeprefix("data: ") for event in events]
