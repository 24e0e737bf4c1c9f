"""What was asked of the engine: frozen, complete, made once by `EngineArgs.create_engine_config`.

Values that were left to the engine ("auto", None) are resolved before these are built wherever the answer does
not need the device; what must be measured is in `EngineFacts` instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvik.config.attention import AttentionConfig
from kvik.config.compilation import CompilationConfig
from kvik.config.lora import LoraConfig
from kvik.config.speculative import SpeculativeConfig
from kvik.config.structured_outputs import StructuredOutputsConfig
from kvik.modelfile.spec import ModelSpec


@dataclass(frozen=True)
class ModelConfig:
    model: str
    """Path of a Hugging Face folder or a .gguf file."""
    spec: ModelSpec
    tokenizer: str
    """Path of the folder or .gguf file that holds the tokenizer."""
    served_model_names: tuple[str, ...]
    """At least one; the first is used in answers and metrics."""
    dtype: str = "bfloat16"
    """Of what is not quantised. Resolved: "bfloat16" or "float32" on a CPU."""
    matmul_precision: str = "high"
    """Of bf16 matrices: "high" (16-bit fixed point) or "highest" (fp32 multiply-adds)."""
    quantization: str | None = None
    """"int8" or "int4", made as the weights are read; "none": floats again; None: as the checkpoint has them."""
    max_model_len: int | None = None
    """Tokens, prompt and answer together. None: the largest that fits the KV cache, up to the model's own."""
    seed: int = 0
    max_logprobs: int = 20
    logprobs_mode: str = "raw_logprobs"
    skip_tokenizer_init: bool = False
    enable_sleep_mode: bool = False
    """Operators may send the engine to sleep."""


@dataclass(frozen=True)
class CacheConfig:
    block_size: int = 16
    """Tokens per KV block."""
    gpu_memory_utilization: float = 0.92
    """Share of the device's memory (of the machine's, on a CPU) that this engine may take."""
    kv_cache_memory_bytes: int | None = None
    """Explicit size of the KV cache; replaces the arithmetic above."""
    kv_cache_dtype: str = "auto"
    num_blocks_override: int | None = None
    enable_prefix_caching: bool = True
    prefix_caching_hash_algo: str = "sha256"
    device_memory_bytes: int | None = None
    """What the device is taken to have; None: what is measured at the start."""

    @property
    def is_sized_by_number(self) -> bool:
        """Bytes or blocks were asked for: how much memory the device has does not matter."""
        return self.num_blocks_override is not None or self.kv_cache_memory_bytes is not None


@dataclass(frozen=True)
class SchedulerConfig:
    max_num_batched_tokens: int = 2048
    """Token budget of one step."""
    max_step_ms: float | None = None
    """Longest step while requests decode, in milliseconds: prompts are cut to fit. None adapts; 0 is off."""
    max_num_seqs: int = 128
    """Requests that run at once."""
    policy: str = "fcfs"
    """"fcfs" or "priority"."""
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    """Per step, at most this many prompt tokens of one request while others are there; 0 is off."""
    scheduler_reserve_full_isl: bool = True
    """Admit a request only when the blocks of its whole prompt are free."""
    watermark: float = 0.0
    """Share of the blocks kept free at admission."""
    stream_interval: int = 1
    """Tokens per streamed chunk."""
    max_num_queued_reqs: int | None = None
    """Open prompts from which on new ones are refused; None: no limit."""
    max_num_queued_tokens: int | None = None
    """Tokens of waiting prompts above which new ones are refused; None: no limit of the engine's."""
    async_scheduling: bool | None = None
    """Plan a step while the last one is computed. None: where that is faster, and without drafts."""


@dataclass(frozen=True)
class LoadConfig:
    load_format: str = "auto"
    """"auto", "safetensors", "gguf", or "dummy" for random weights."""
    use_tqdm_on_load: bool = True


@dataclass(frozen=True)
class ParallelConfig:
    tensor_parallel_size: int = 1
    """Workers that share the model, each with a device of its own, or with a part of the CPU's threads."""
    executor: str = "uni"
    """"uni": the engine process computes; "mp": worker processes do."""


@dataclass(frozen=True)
class DeviceConfig:
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    cpu_threads: int | None = None
    """Threads that compute; None is all cores that this process may use."""


@dataclass(frozen=True)
class ObservabilityConfig:
    log_stats: bool = True
    log_level: str = "INFO"


@dataclass(frozen=True)
class EngineConfig:
    model: ModelConfig
    cache: CacheConfig = field(default_factory=CacheConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    load: LoadConfig = field(default_factory=LoadConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    observability: ObservabilityConfig = field(default_factory=ObservabilityConfig)
    speculative: SpeculativeConfig | None = None
    """None: no drafts."""
    structured_outputs: StructuredOutputsConfig = field(default_factory=StructuredOutputsConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    compilation: CompilationConfig = field(default_factory=CompilationConfig)
    lora: LoraConfig | None = None
    """None: no adapters."""
