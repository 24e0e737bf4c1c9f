"""Writes the tables of docs/migrating-from-vllm.md from the flags and the metrics themselves.

`python scripts/migration_tables.py`; with --check it only compares. Ends with an error where a flag that is not there
yet, or a metric of the field that is not served, has no reason here, or where a reason has outlived its flag.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from prometheus_client import CollectorRegistry

from kvik.config import EngineConfig, ModelConfig
from kvik.config.catalog import GROUPS, serve_flags
from kvik.config.flags import Flag
from kvik.config.lora import LoraConfig
from kvik.config.speculative import SpeculativeConfig
from kvik.messages import EngineFacts
from kvik.modelfile import ModelSpec, RopeSpec
from kvik.telemetry.metrics import EngineMetrics
from kvik.telemetry.prefixes import OWN_PREFIX

DOCUMENT = Path(__file__).parents[1] / "docs" / "migrating-from-vllm.md"
MARK = "<!-- Below this line: written by scripts/migration_tables.py. -->"

WHY_A_GROUP_IS_NOT_THERE = {
    "General": "one process serves HTTP and one computes; there is no gRPC",
    "Frontend": "no gRPC, no supervisor of several servers, no code that is named on the command line",
    "ModelConfig": "models come from local folders and files, are written here, and make text from text",
    "LoadConfig": "files are local, and are mapped into memory",
    "ParallelConfig": "one machine; models are shared by tensor parallelism alone",
    "CacheConfig": "one kind of cache, in the device's memory",
    "OffloadConfig": "weights lie in the device's memory",
    "SchedulerConfig": "one scheduler, which knows one kind of KV block",
    "KernelConfig": "kernels are chosen by the machine and the format of the weights",
    "MambaConfig": "no state space models",
    "MultiModalConfig": "no images, video or audio",
    "LoRAConfig": "adapters of dense layers, on one device",
    "ObservabilityConfig": "traces and statistics that are not built; no step compiles",
    "LoggingConfig": "the log has one format",
    "VllmConfig": "no KV connectors, watermarks, diffusion models, draft models or profilers",
}
WHY_A_METRIC_IS_NOT_THERE = {
    "num_requests_kv_fetch_by_stage": "no KV connectors",
    "corrupted_requests": "logits are not searched for NaN",
    "watermark_requests": "no watermarks",
    "diffusion_num_denoising_steps": "no diffusion models",
    "diffusion_num_canvas_positions": "no diffusion models",
    "diffusion_num_committed_tokens": "no diffusion models",
    "estimated_flops_per_gpu": "`--enable-mfu-metrics` is not there yet",
    "estimated_read_bytes_per_gpu": "`--enable-mfu-metrics` is not there yet",
    "estimated_write_bytes_per_gpu": "`--enable-mfu-metrics` is not there yet",
    "tool_call_parser_invocations": "not built",
    "websocket_connections": "no WebSockets",
    "websocket_connections_active": "no WebSockets",
    "websocket_connection_duration_seconds": "no WebSockets",
    "kv_block_lifetime_seconds": "`--kv-cache-metrics` is not there yet",
    "kv_block_idle_before_evict_seconds": "`--kv-cache-metrics` is not there yet",
    "kv_block_reuse_gap_seconds": "`--kv-cache-metrics` is not there yet",
    "sleep_mode_operations_in_flight": "not built",
    "sleep_mode_operation_duration_seconds": "not built",
    "rl_weight_update_operations_in_flight": "no weight updates while serving",
    "rl_weight_update_operation_duration_seconds": "no weight updates while serving",
}
FIELD = """
    num_requests_running num_requests_waiting num_requests_waiting_by_reason num_requests_kv_fetch_by_stage
    kv_cache_usage_perc engine_sleep_state lora_requests_info cache_config_info sleep_mode_operations_in_flight
    rl_weight_update_operations_in_flight websocket_connections_active prompt_tokens prompt_tokens_by_source
    prompt_tokens_cached prompt_tokens_cached_by_source generation_tokens request_success num_preemptions
    prefix_cache_queries prefix_cache_hits external_prefix_cache_queries external_prefix_cache_hits mm_cache_queries
    mm_cache_hits admission_rejections corrupted_requests watermark_requests spec_decode_num_drafts
    spec_decode_num_draft_tokens spec_decode_num_accepted_tokens spec_decode_num_accepted_tokens_per_pos
    diffusion_num_denoising_steps diffusion_num_canvas_positions diffusion_num_committed_tokens estimated_flops_per_gpu
    estimated_read_bytes_per_gpu estimated_write_bytes_per_gpu tool_call_parser_invocations websocket_connections
    time_to_first_token_seconds inter_token_latency_seconds request_time_per_output_token_seconds
    e2e_request_latency_seconds request_queue_time_seconds request_prefill_time_seconds request_decode_time_seconds
    request_inference_time_seconds request_prompt_tokens request_generation_tokens request_max_num_generation_tokens
    request_params_max_tokens request_params_n request_prefill_kv_computed_tokens request_num_preemptions
    iteration_tokens_total kv_block_lifetime_seconds kv_block_idle_before_evict_seconds kv_block_reuse_gap_seconds
    sleep_mode_operation_duration_seconds rl_weight_update_operation_duration_seconds
    websocket_connection_duration_seconds
""".split()
"""Metrics of vLLM 0.32.0 on its V1 engine, without their prefix and those of its KV connectors."""
ONLY_WITH = {"lora_": "`--enable-lora`", "spec_decode_": "`--speculative-config`"}


def served_metrics() -> set[str]:
    """Names of all engine metrics, without their prefix, of a server that has adapters and drafts."""
    spec = ModelSpec("LlamaForCausalLM", 32, 8, 16, 1, 2, 1, 4, 64, 1e-5, RopeSpec(theta=1.0))
    model = ModelConfig("/m", spec, "/m", ("m",))
    config = EngineConfig(model, lora=LoraConfig(), speculative=SpeculativeConfig("ngram", 1))
    facts = EngineFacts(
        device="cpu", kernels="avx2", num_threads=1, weights_bytes=1, kv_cache_bytes=1, num_blocks=2, block_size=16,
        max_model_len=64,
    )  # fmt: skip
    registry = CollectorRegistry()
    EngineMetrics(registry, config, facts)
    return {family.name.removeprefix(OWN_PREFIX) for family in registry.collect()}


def flag_tables() -> str:
    flags = [f for f in serve_flags() if not f.is_ours]
    taken, missing = [f for f in flags if f.is_supported], [f for f in flags if not f.is_supported]
    _check(WHY_A_GROUP_IS_NOT_THERE, {f.group for f in missing}, "a group of flags")
    return "\n\n".join([
        f"### Accepted: {len(taken)} of {len(flags)}",
        _table(("group", "flags"), [(group, _names(of)) for group, of in _by_group(taken)]),
        f"### Not there yet: {len(missing)}",
        "Each is known and takes its default; values that ask for what is so anyway are accepted and stand in brackets."
        " Anything else ends the start with an error that names the flag.",
        _table(
            ("group", "why", "flags"),
            [(group, WHY_A_GROUP_IS_NOT_THERE[group], _names(of)) for group, of in _by_group(missing)],
        ),
        "### Of kvik's own",
        _table(("group", "flags"), [(g, _names(of)) for g, of in _by_group(f for f in serve_flags() if f.is_ours)]),
    ])  # fmt: skip


def metric_tables() -> str:
    served = served_metrics()
    missing = [name for name in FIELD if name not in served]
    _check(WHY_A_METRIC_IS_NOT_THERE, missing, "a metric")
    kept = [name for name in FIELD if name in served]
    return "\n\n".join([
        f"### Served under the same name: {len(kept)} of {len(FIELD)}",
        "Counters end in `_total`, histograms in `_bucket`, `_sum` and `_count`, as they do there.",
        _table(("metric", "when"), [(f"`vllm:{name}`", _when(name)) for name in kept]),
        f"### Not served: {len(missing)}",
        _table(("metric", "why"), [(f"`vllm:{name}`", WHY_A_METRIC_IS_NOT_THERE[name]) for name in missing]),
        "### Of kvik's own",
        ", ".join(f"`{name}`" for name in sorted(served - set(FIELD))) + "; what they mean: [metrics](metrics.md).",
    ])  # fmt: skip


def _check(reasons: dict[str, str], needed: Iterable[str], what: str) -> None:
    without, outlived = set(needed) - set(reasons), set(reasons) - set(needed)
    if without or outlived:
        sys.exit(f"{what} without a reason: {sorted(without)}; reasons for what is there: {sorted(outlived)}")


def _when(name: str) -> str:
    return next((f"with {flag}" for start, flag in ONLY_WITH.items() if name.startswith(start)), "always")


def _by_group(flags: Iterable[Flag]) -> list[tuple[str, list[Flag]]]:
    listed = list(flags)
    groups = [(title, [f for f in listed if f.group == title]) for title in GROUPS]
    return [(title, of) for title, of in groups if of]


def _names(flags: Iterable[Flag]) -> str:
    return " ".join(_name(f) for f in flags)


def _name(flag: Flag) -> str:
    name = "`MODEL`" if flag.name == "model-tag" else f"`--{flag.name}`"
    accepted = ", ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in flag.accepts or ())
    return f"{name} ({accepted})" if accepted else name


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def document(current: str) -> str:
    """`current` with everything below the mark written anew."""
    head, mark, _ = current.partition(MARK)
    return f"{head}{mark or MARK}\n\n## Flags\n\n{flag_tables()}\n\n## Metrics, one by one\n\n{metric_tables()}\n"


def main() -> int:
    current = DOCUMENT.read_text(encoding="utf-8")
    new = document(current)
    if "--check" in sys.argv[1:]:
        return int(new != current)
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
