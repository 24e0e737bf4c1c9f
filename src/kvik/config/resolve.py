"""From what the flags say to a complete `EngineConfig`: paths, defaults that depend on the model, and all checks.

Reads the checkpoint's facts, never its weights, and knows no device: what must be measured is the engine's.
"""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from kvik.config import env
from kvik.config.attention import attention_config_of
from kvik.config.compilation import compilation_config_of
from kvik.config.device_kind import check_device_kind
from kvik.config.engine import (
    CacheConfig,
    DeviceConfig,
    EngineConfig,
    LoadConfig,
    ModelConfig,
    ObservabilityConfig,
    ParallelConfig,
    SchedulerConfig,
)
from kvik.config.generation import with_given_eos_ids
from kvik.config.lora import lora_config_of
from kvik.config.speculative import speculative_config_of
from kvik.config.structured_outputs import GrammarLimits, structured_outputs_config_of
from kvik.config.values import AUTO
from kvik.errors import ConfigError, NotSupportedYetError
from kvik.modelfile import ModelFile, embedded_model_path, open_model
from kvik.modelfile.quantization import METHODS
from kvik.modelfile.spec import ModelSpec
from kvik.plan.tensors import cannot_share
from kvik.telemetry.log import get_logger

if TYPE_CHECKING:
    from kvik.config.args import EngineArgs

logger = get_logger(__name__)

EMBEDDED_MODEL_NAME = "SmolLM2-135M-Instruct"
DEFAULT_BLOCK_SIZE = 16
BLOCK_SIZES = (16, 32, 64, 128, 256, 512)
"""Those that divide the 512 keys of an attention partition evenly."""
AT_LOAD = ("int8", "int4", "fp8")
UNPACKED = "none"
STORED = (*METHODS, "gguf")
"""Values of --quantization: what can be made of float weights, their floats again, and what a checkpoint may be."""
KV_CACHE_DTYPES = {
    "auto": "auto", "float16": "float16", "bfloat16": "bfloat16", "int8": "int8", "int8_per_token_head": "int8",
    "fp8": "float8_e4m3fn", "fp8_e4m3": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2",
}  # fmt: skip
"""What --kv-cache-dtype takes here, and what it is called within."""
LOAD_FORMATS = ("auto", "safetensors", "gguf", "dummy")


def open_model_of(args: EngineArgs) -> ModelFile:
    """Open what `args.model` names, or the embedded model. Raises `ConfigError` or `ModelFileError`."""
    if args.trust_remote_code:
        raise ConfigError("--trust-remote-code is refused: kvik never runs code that comes with a model; leave it out")
    if args.model is None:
        return open_model(str(embedded_model_path()))
    return open_model(args.model)


def engine_config_of(args: EngineArgs, model_file: ModelFile) -> EngineConfig:
    """Resolve and check `args` against the opened checkpoint. Raises `ConfigError`; logs what was decided."""
    model = _model_config(args, model_file)
    scheduler = _scheduler_config(args, model.max_model_len or model.spec.max_position_embeddings)
    config = EngineConfig(
        model=model,
        cache=_cache_config(args, model.spec),
        scheduler=scheduler,
        load=_load_config(args, model_file),
        parallel=_parallel_config(args, model.spec),
        device=_device_config(args),
        observability=ObservabilityConfig(
            log_stats=not args.disable_log_stats, log_level=args.log_level or env.logging_level() or "INFO"
        ),
        speculative=speculative_config_of(args.speculative_config, args.spec_method, args.spec_tokens),
        structured_outputs=structured_outputs_config_of(args.structured_outputs_config, _grammar_limits(args)),
        attention=attention_config_of(args.attention_backend, args.attention_config),
        compilation=compilation_config_of(
            args.compilation_config,
            level=args.optimization_level,
            enforce_eager=args.enforce_eager,
            capture_sizes=args.cudagraph_capture_sizes,
            max_capture_size=args.max_cudagraph_capture_size,
            max_num_seqs=scheduler.max_num_seqs,
            max_num_batched_tokens=scheduler.max_num_batched_tokens,
        ),
        lora=lora_config_of(args, model.dtype),
    )
    _require(
        not (config.scheduler.async_scheduling and config.speculative is not None),
        "--async-scheduling plans a step before the tokens of the last one are known, and drafts are made of them; "
        "leave out --async-scheduling or --speculative-config",
    )
    if config.device.device != "auto":
        check_device_kind(config, config.device.device)
    _log_decisions(config)
    return config


def _model_config(args: EngineArgs, model_file: ModelFile) -> ModelConfig:
    tokenizer = args.tokenizer or model_file.path
    _require(Path(tokenizer).exists(), f"--tokenizer: there is no folder or .gguf file {tokenizer}; check the path")
    _require(args.max_logprobs >= -1, f"--max-logprobs takes -1 (no limit) or more, got {args.max_logprobs}")
    return ModelConfig(
        model=str(model_file.path),
        spec=with_given_eos_ids(model_file.spec, args),
        tokenizer=str(tokenizer),
        served_model_names=args.served_model_name or (args.model or EMBEDDED_MODEL_NAME,),
        dtype=_dtype(args.dtype, model_file.spec.dtype, args.device),
        matmul_precision=args.matmul_precision,
        quantization=_quantization(args.quantization or (None if args.model else UNPACKED), model_file),
        max_model_len=_max_model_len(args.max_model_len, model_file.spec.max_position_embeddings),
        seed=args.seed,
        max_logprobs=args.max_logprobs,
        enable_sleep_mode=args.enable_sleep_mode,
    )


def _dtype(asked: str, of_checkpoint: str, device: str) -> str:
    if asked in ("half", "float16"):
        if device == "cuda":
            return "float16"
        raise ConfigError(
            f"--dtype {asked} cannot be computed on a CPU: use --dtype bfloat16, or --dtype float32 to keep every "
            "digit of a float16 checkpoint; for a GPU say --device cuda, too"
        )
    if asked != "auto":
        return "float32" if asked == "float" else asked
    if of_checkpoint == "float16" and device != "cuda":
        logger.warning("The checkpoint is float16, which a CPU does not compute: casting to bfloat16")
        return "bfloat16"
    return of_checkpoint


def _quantization(asked: str | None, model_file: ModelFile) -> str | None:
    """What is to be made at load. The name of what the checkpoint has already asks for nothing more.

    The embedded model is so small that rounded inputs change its answers: without a word from the user it is unpacked.
    """
    stored = model_file.quantization_method
    _require(
        asked in (None, UNPACKED, *AT_LOAD, *STORED),
        f"--quantization {asked} is not something that kvik can do: it takes {', '.join(AT_LOAD)} to quantise a float "
        f"checkpoint as it is read; {UNPACKED} to compute a quantised one in --dtype; {', '.join(STORED)} for a "
        "checkpoint that is so already; or leave it out",
    )
    if asked == UNPACKED:
        return UNPACKED if stored or model_file.format == "gguf" else None
    if asked in AT_LOAD and asked != stored:
        is_fp8 = model_file.quantization is not None and model_file.quantization.fp8 is not None
        _require(
            stored is None or (is_fp8 and asked != "fp8"),
            f"--quantization {asked} would quantise {model_file.path} a second time, which is {stored} already: leave "
            "it out to run the checkpoint as it is, or take the unquantised one",
        )
        return asked
    is_so = asked in (None, stored) or (asked == "gguf" and model_file.format == "gguf")
    _require(
        is_so,
        f"--quantization {asked} does not fit {model_file.path}, whose weights are {stored or 'not quantised'}: leave "
        "it out" + ("" if stored else f", or take {' or '.join(AT_LOAD)} to quantise them as they are read"),
    )
    return None


def _max_model_len(asked: int | None, limit: int) -> int | None:
    """Tokens; None leaves it to the engine. `limit` is what the model was made for."""
    if asked is None:
        return limit
    if asked == AUTO:
        return None
    _require(asked >= 1, f"--max-model-len takes 1 or more, or auto, got {asked}")
    if asked > limit:
        beyond = f"--max-model-len {asked} is beyond the {limit} tokens that the model was made for"
        if not env.allows_long_max_model_len():
            raise ConfigError(f"{beyond}: lower it, or set KVIK_ALLOW_LONG_MAX_MODEL_LEN=1 and expect poor answers")
        logger.warning("%s; answers beyond that may be poor", beyond)
    return asked


def _cache_config(args: EngineArgs, spec: ModelSpec) -> CacheConfig:
    block_size = DEFAULT_BLOCK_SIZE if args.block_size is None else args.block_size
    _require(
        block_size in BLOCK_SIZES, f"--block-size takes one of {', '.join(map(str, BLOCK_SIZES))}, got {block_size}"
    )
    share = args.gpu_memory_utilization
    _require(0 < share <= 1, f"--gpu-memory-utilization takes a share above 0 and at most 1, got {share}")
    num_bytes = env.cpu_kvcache_bytes() if args.kv_cache_memory_bytes is None else args.kv_cache_memory_bytes
    _require(num_bytes is None or num_bytes > 0, f"--kv-cache-memory-bytes takes 1 or more, got {num_bytes}")
    total = args.device_memory
    _require(total is None or total > 0, f"--device-memory takes more than nothing, such as 24GiB, got {total} bytes")
    blocks = args.num_gpu_blocks_override
    _require(blocks is None or blocks > 0, f"--num-gpu-blocks-override takes 1 or more, got {blocks}")
    return CacheConfig(
        block_size=block_size,
        gpu_memory_utilization=share,
        kv_cache_memory_bytes=num_bytes,
        kv_cache_dtype=_kv_cache_dtype(args.kv_cache_dtype, spec),
        num_blocks_override=blocks,
        enable_prefix_caching=args.enable_prefix_caching is not False,
        device_memory_bytes=total,
    )


def _kv_cache_dtype(asked: str, spec: ModelSpec) -> str:
    if asked not in KV_CACHE_DTYPES:
        possible = ", ".join(KV_CACHE_DTYPES)
        raise NotSupportedYetError(f"--kv-cache-dtype {asked}", f"keys and values can be one of {possible}")
    dtype = KV_CACHE_DTYPES[asked]
    _require(
        dtype != "int8" or spec.head_dim % 4 == 0,
        f"--kv-cache-dtype {asked} needs heads of a multiple of 4 dimensions, this model's have {spec.head_dim}: use "
        "auto, float16 or bfloat16",
    )
    return dtype


def _scheduler_config(args: EngineArgs, max_model_len: int) -> SchedulerConfig:
    chunked = args.enable_chunked_prefill is not False
    max_num_seqs, budget = _batch_limits(args, max_model_len, chunked)
    threshold, interval = args.long_prefill_token_threshold, args.stream_interval
    _require(threshold >= 0, f"--long-prefill-token-threshold takes 0 (off) or more, got {threshold}")
    _require(0 <= args.watermark < 1, f"--watermark takes a share from 0 to below 1, got {args.watermark}")
    _require(interval >= 1, f"--stream-interval takes 1 or more, got {interval}")
    most = args.max_num_queued_reqs
    _require(most is None or most >= 1, f"--max-num-queued-reqs takes 1 or more, got {most}")
    most_tokens = args.max_num_queued_tokens
    _require(most_tokens is None or most_tokens >= 1, f"--max-num-queued-tokens takes 1 or more, got {most_tokens}")
    return SchedulerConfig(
        max_num_batched_tokens=budget,
        max_step_ms=_max_step_ms(args, chunked),
        max_num_seqs=max_num_seqs,
        policy=args.scheduling_policy,
        enable_chunked_prefill=chunked,
        long_prefill_token_threshold=threshold,
        scheduler_reserve_full_isl=args.scheduler_reserve_full_isl,
        watermark=args.watermark,
        stream_interval=interval,
        max_num_queued_reqs=most,
        max_num_queued_tokens=most_tokens,
        async_scheduling=args.async_scheduling,
    )


def _max_step_ms(args: EngineArgs, chunked: bool) -> float | None:
    """Milliseconds; 0 is no limit, None leaves it to the engine."""
    asked = args.max_step_ms
    _require(
        asked is None or asked == AUTO or (asked >= 0 and math.isfinite(asked)),
        f"--max-step-ms takes 0 (no limit) or more milliseconds, or auto, got {asked}",
    )
    _require(
        chunked or not asked,
        f"--max-step-ms {'auto' if asked == AUTO else asked} needs prompts that may be cut: allow chunks "
        "(--enable-chunked-prefill) or set --max-step-ms 0",
    )
    resolved = asked if asked is not None else args.default_max_step_ms if chunked else 0.0
    return None if resolved == AUTO else resolved


def _batch_limits(args: EngineArgs, max_model_len: int, chunked: bool) -> tuple[int, int]:
    """max_num_seqs and max_num_batched_tokens.

    Defaults bend to each other and to max_model_len; what was asked for is taken as it is or refused.
    """
    if args.performance_mode == "interactivity":
        raise NotSupportedYetError("--performance-mode interactivity")
    factor = 2 if args.performance_mode == "throughput" else 1
    default_budget, default_seqs = (factor * limit for limit in args.default_batch_limits)
    asked_seqs, asked_budget = args.max_num_seqs, args.max_num_batched_tokens
    _require(asked_seqs is None or asked_seqs >= 1, f"--max-num-seqs takes 1 or more, got {asked_seqs}")
    _require(asked_budget is None or asked_budget >= 1, f"--max-num-batched-tokens takes 1 or more, got {asked_budget}")
    seqs = asked_seqs or min(default_seqs, asked_budget or default_seqs)
    budget = asked_budget or max(seqs, min(default_budget, seqs * max_model_len), 0 if chunked else max_model_len)
    _require(
        budget >= seqs,
        f"--max-num-batched-tokens {budget} is below --max-num-seqs {seqs}: each running request needs one token of "
        "the budget per step; raise the former or lower the latter",
    )
    _require(
        chunked or budget >= max_model_len,
        f"--max-num-batched-tokens {budget} is below the {max_model_len} tokens of max_model_len, and without chunked "
        "prefill a prompt must fit one step: raise it, lower --max-model-len, or drop --no-enable-chunked-prefill",
    )
    return seqs, budget


def _load_config(args: EngineArgs, model_file: ModelFile) -> LoadConfig:
    asked = args.load_format
    if asked not in LOAD_FORMATS:
        raise NotSupportedYetError(f"--load-format {asked}")
    is_gguf = model_file.format == "gguf"
    if (asked == "gguf" and not is_gguf) or (asked == "safetensors" and is_gguf):
        raise ConfigError(
            f"--load-format {asked} does not fit {model_file.path}, which is a "
            f"{'.gguf file' if is_gguf else 'folder of safetensors files'}: leave it out"
        )
    return LoadConfig(load_format=asked, use_tqdm_on_load=args.use_tqdm_on_load)


def _parallel_config(args: EngineArgs, spec: ModelSpec) -> ParallelConfig:
    size, backend = args.tensor_parallel_size, args.distributed_executor_backend
    _require(size >= 1, f"--tensor-parallel-size takes 1 or more, got {size}")
    if backend not in (None, "mp", "uni"):
        raise NotSupportedYetError(
            f"--distributed-executor-backend {backend}", "workers run as mp (processes) or uni (in the engine's own)"
        )
    _require(
        size == 1 or backend != "uni",
        f"--distributed-executor-backend uni is one process, but --tensor-parallel-size {size} needs {size}: leave one "
        "of them out, or take mp",
    )
    problem = cannot_share(spec, size)
    if problem is not None:
        possible = [str(n) for n in range(1, spec.num_heads + 1) if cannot_share(spec, n) is None]
        raise ConfigError(f"--tensor-parallel-size {size}: {problem}; this model can have {', '.join(possible)}")
    return ParallelConfig(size, backend or ("uni" if size == 1 else "mp"))


def _device_config(args: EngineArgs) -> DeviceConfig:
    threads = args.cpu_threads
    _require(threads is None or threads >= 1, f"--cpu-threads takes 1 or more, got {threads}")
    return DeviceConfig(device=args.device, cpu_threads=threads)


def _grammar_limits(args: EngineArgs) -> GrammarLimits:
    return GrammarLimits(**{f.name: getattr(args, f.name) for f in fields(GrammarLimits)})


def _log_decisions(config: EngineConfig) -> None:
    logger.info("Resolved architecture: %s", config.model.spec.architecture)
    if config.model.max_model_len is None:
        limit = config.model.spec.max_position_embeddings
        logger.info("Using the largest max model len that fits the KV cache, at most %d", limit)
    else:
        logger.info("Using max model len %d", config.model.max_model_len)
    if config.scheduler.enable_chunked_prefill:
        budget = config.scheduler.max_num_batched_tokens
        logger.info("Chunked prefill is enabled with max_num_batched_tokens=%d.", budget)
    if config.lora is not None:
        logger.info(
            "LoRA adapters are enabled: up to %d in a step and %d in memory, of rank %d at most.",
            config.lora.max_loras, config.lora.max_cpu_loras, config.lora.max_lora_rank,
        )  # fmt: skip
    if (drafts := config.speculative) is not None:
        logger.info(
            "Drafting up to %d tokens by method %s where it pays.", drafts.num_speculative_tokens, drafts.method
        )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
