"""The exposition, read back with the parser of prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families

from kvik.config import EngineConfig, ModelConfig
from kvik.config.lora import LoraConfig
from kvik.config.speculative import SpeculativeConfig
from kvik.messages import EngineFacts, FinishReason, SchedulerStats, SpecDecodeStats, StepTimes, WaitingFor
from kvik.modelfile import ModelSpec, RopeSpec
from kvik.telemetry.metrics import EngineMetrics
from kvik.telemetry.registry import CONTENT_TYPE, create_registry, render
from kvik.telemetry.request_times import RequestTimes
from kvik.telemetry.stats import IterationStats
from kvik.telemetry.step_metrics import STEP_PARTS
from kvik.telemetry.waiting_metrics import WAITED_FOR

SPEC = ModelSpec("LlamaForCausalLM", 32, 8, 16, 1, 2, 1, 4, 64, 1e-5, RopeSpec(theta=1.0))
CONFIG = EngineConfig(ModelConfig("/m", SPEC, "/m", ("served", "alias")))
FACTS = EngineFacts(
    device="cpu", kernels="avx2", num_threads=2, weights_bytes=10, kv_cache_bytes=1000, num_blocks=64, block_size=16,
    max_model_len=512,
)  # fmt: skip
LABELS = {"model_name": "served", "engine": "0"}
HISTOGRAMS = {
    "time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
    "request_decode_time_seconds", "request_inference_time_seconds", "request_prompt_tokens",
    "request_generation_tokens", "request_max_num_generation_tokens", "request_params_max_tokens", "request_params_n",
    "request_prefill_kv_computed_tokens", "request_num_preemptions", "iteration_tokens_total",
    "engine_step_time_seconds", "engine_step_part_time_seconds",
}  # fmt: skip
COUNTERS = {
    "prompt_tokens", "prompt_tokens_by_source", "prompt_tokens_cached", "prompt_tokens_cached_by_source",
    "generation_tokens", "request_success", "num_preemptions", "prefix_cache_queries", "prefix_cache_hits",
    "external_prefix_cache_queries", "external_prefix_cache_hits", "mm_cache_queries", "mm_cache_hits",
    "admission_rejections", "engine_restarts", "requests_resumed", "aborted_tokens",
}  # fmt: skip
GAUGES = {
    "num_requests_running", "num_requests_waiting", "num_requests_waiting_by_reason", "kv_cache_usage_perc",
    "num_requests_waiting_for",
    "engine_sleep_state", "cache_config_info",
}  # fmt: skip


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> EngineMetrics:
    return EngineMetrics(registry, CONFIG, FACTS)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"kvik:{name}", {**LABELS, **labels})


def families(registry: CollectorRegistry) -> Iterator[tuple[str, str]]:
    for family in text_string_to_metric_families(render(registry).decode()):
        yield family.name, family.type


def test_names_and_types(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    found = {name: kind for name, kind in families(registry) if not name.endswith("_created")}
    expected = {f"kvik:{n}": "histogram" for n in HISTOGRAMS} | {f"kvik:{n}": "counter" for n in COUNTERS}
    assert found == expected | {f"kvik:{n}": "gauge" for n in GAUGES}


def test_all_series_exist_before_the_first_request(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    for reason in ("stop", "length", "abort", "error", "repetition"):
        assert value(registry, "request_success_total", finished_reason=reason) == 0
    for source in ("local_compute", "local_cache_hit", "external_kv_transfer"):
        assert value(registry, "prompt_tokens_by_source_total", source=source) == 0
    for source in ("device", "host", "disk", "p2p", "external_unspecified"):
        assert value(registry, "prompt_tokens_cached_by_source_total", source=source) == 0
    for reason in ("capacity", "deferred"):
        assert value(registry, "num_requests_waiting_by_reason", reason=reason) == 0
    for resource in ("blocks", "slots", "budget", "grammar", "adapter"):
        assert value(registry, "num_requests_waiting_for", resource=resource) == 0
    for part in ("schedule", "execute", "sample", "update", "wire"):
        assert value(registry, "engine_step_part_time_seconds_count", part=part) == 0
    states = {s: value(registry, "engine_sleep_state", sleep_state=s) for s in ("awake", "weights_offloaded")}
    assert states == {"awake": 1, "weights_offloaded": 0}
    rejections = {"model_name": "served", "reason": "max_num_queued_reqs"}
    assert registry.get_sample_value("kvik:admission_rejections_total", rejections) == 0
    assert value(registry, "prompt_tokens_created") is not None


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("request_prompt_tokens", "1.0 2.0 5.0 10.0 20.0 50.0 100.0 200.0 500.0 +Inf"),
        ("request_params_n", "1.0 2.0 5.0 10.0 20.0 +Inf"),
        (
            "e2e_request_latency_seconds",
            "0.3 0.5 0.8 1.0 1.5 2.0 2.5 5.0 10.0 15.0 20.0 30.0 40.0 50.0 60.0 "
            "120.0 240.0 480.0 960.0 1920.0 7680.0 +Inf",
        ),
    ],
)
def test_bounds(registry: CollectorRegistry, metrics: EngineMetrics, name: str, bounds: str) -> None:
    samples = [s for family in registry.collect() for s in family.samples if s.name == f"kvik:{name}_bucket"]
    assert [s.labels["le"] for s in samples] == bounds.split()


def test_custom_bounds(registry: CollectorRegistry) -> None:
    EngineMetrics(registry, CONFIG, FACTS, {"request_params_n": [3]})
    samples = [s for f in registry.collect() for s in f.samples if s.name == "kvik:request_params_n_bucket"]
    assert [s.labels["le"] for s in samples] == ["3.0", "+Inf"]


def test_the_scheduler_state(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    step = SchedulerStats(
        num_running=3, num_waiting=2, kv_cache_usage=0.25, num_preemptions=1, prefix_cache_queries=40,
        prefix_cache_hits=16,
    )  # fmt: skip
    metrics.record(step, None)
    metrics.record(step, None)
    assert value(registry, "num_requests_running") == 3
    assert value(registry, "num_requests_waiting") == 2
    assert value(registry, "num_requests_waiting_by_reason", reason="capacity") == 2
    assert value(registry, "kv_cache_usage_perc") == 0.25
    assert value(registry, "num_preemptions_total") == 2
    assert value(registry, "prefix_cache_queries_total") == 80
    assert value(registry, "prefix_cache_hits_total") == 32


def test_a_step(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    metrics.record(
        None,
        IterationStats(
            num_prompt_tokens=10, num_cached_tokens=4, num_generation_tokens=3, time_to_first_token_s=[0.2],
            inter_token_latency_s=[0.01, 0.02],
        ),
    )  # fmt: skip
    assert value(registry, "prompt_tokens_total") == 10
    assert value(registry, "prompt_tokens_by_source_total", source="local_compute") == 6
    assert value(registry, "prompt_tokens_by_source_total", source="local_cache_hit") == 4
    assert value(registry, "prompt_tokens_cached_total") == 4
    assert value(registry, "prompt_tokens_cached_by_source_total", source="device") == 4
    assert value(registry, "generation_tokens_total") == 3
    assert value(registry, "iteration_tokens_total_sum") == 6 + 3
    assert value(registry, "time_to_first_token_seconds_sum") == 0.2
    assert value(registry, "inter_token_latency_seconds_count") == 2
    assert value(registry, "inter_token_latency_seconds_bucket", le="0.01") == 1


def test_a_finished_request(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    finished = RequestTimes(
        1.0, 1.5, 2.5, 4.5, 8.5, finished_s=9.0, finish_reason="length", num_prompt_tokens=10, num_tokens=5,
        num_cached_tokens=4, max_tokens=5, num_preemptions=1,
    )  # fmt: skip
    metrics.record(
        None, IterationStats(finished=[finished, finished], finished_n=[2], finished_max_generation_tokens=[5])
    )
    assert value(registry, "request_success_total", finished_reason="length") == 2
    sums = {
        "e2e_request_latency_seconds": 16, "request_queue_time_seconds": 2, "request_prefill_time_seconds": 4,
        "request_decode_time_seconds": 8, "request_inference_time_seconds": 12,
        "request_time_per_output_token_seconds": 2, "request_prompt_tokens": 20, "request_generation_tokens": 10,
        "request_max_num_generation_tokens": 5, "request_params_max_tokens": 10, "request_params_n": 2,
        "request_prefill_kv_computed_tokens": 12, "request_num_preemptions": 2,
    }  # fmt: skip
    assert {name: value(registry, f"{name}_sum") for name in sums} == sums
    assert value(registry, "request_params_n_count") == 1


def test_a_request_without_a_limit_is_not_in_its_histogram(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    finished = RequestTimes(1.0, finish_reason="stop", num_prompt_tokens=1, num_tokens=1)
    metrics.record(None, IterationStats(finished=[finished]))
    assert value(registry, "request_params_max_tokens_count") == 0
    assert value(registry, "request_time_per_output_token_seconds_sum") == 0


def test_cache_config_info(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    (info,) = (f for f in registry.collect() if f.name == "kvik:cache_config_info")
    (sample,) = info.samples
    assert sample.value == 1
    expected = {
        "engine": "0", "block_size": "16", "num_gpu_blocks": "64", "cache_dtype": "auto",
        "kv_cache_size_tokens": "1024", "kv_cache_max_concurrency": "2.0", "enable_prefix_caching": "True",
        "gpu_memory_utilization": "0.92", "prefix_caching_hash_algo": "sha256", "mamba_cache_mode": "none",
        "kv_offloading_size": "None",
    }  # fmt: skip
    assert expected.items() <= sample.labels.items()
    assert "model_name" not in sample.labels


def test_a_registry_has_the_usual_process_metrics() -> None:
    names = {name for name, _ in families(create_registry())}
    assert {"python_info", "process_resident_memory_bytes", "python_gc_collections"} <= names


def test_the_content_type_is_that_of_the_exposition() -> None:
    assert CONTENT_TYPE == CONTENT_TYPE_LATEST


def test_drafts(registry: CollectorRegistry) -> None:
    config = replace(CONFIG, speculative=SpeculativeConfig("ngram", 3))
    metrics = EngineMetrics(registry, config, FACTS)
    assert value(registry, "spec_decode_num_drafts_total") == 0
    metrics.record(SchedulerStats(spec_decode=SpecDecodeStats(2, 5, 3, [2, 1])), None)
    metrics.record(SchedulerStats(), None)
    metrics.record(SchedulerStats(spec_decode=SpecDecodeStats(1, 3, 3, [1, 1, 1])), None)
    assert value(registry, "spec_decode_num_drafts_total") == 3
    assert value(registry, "spec_decode_num_draft_tokens_total") == 8
    assert value(registry, "spec_decode_num_accepted_tokens_total") == 6
    per_pos = [value(registry, "spec_decode_num_accepted_tokens_per_pos_total", position=str(i)) for i in range(4)]
    assert per_pos == [3, 2, 1, None]


def test_no_draft_metrics_without_drafts(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    assert not [name for name, _ in families(registry) if "spec_decode" in name]


def test_adapters(registry: CollectorRegistry) -> None:
    """One series: that of the newest step."""
    metrics = EngineMetrics(registry, replace(CONFIG, lora=LoraConfig(max_loras=2)), FACTS)
    metrics.record(SchedulerStats(running_loras=["a", "b"], waiting_loras=["c"]), None)
    metrics.record(SchedulerStats(running_loras=["b"]), None)
    (family,) = [f for f in registry.collect() if f.name == "kvik:lora_requests_info"]
    (sample,) = family.samples
    assert sample.labels == {"max_lora": "2", "running_lora_adapters": "b", "waiting_lora_adapters": ""}
    assert sample.value > 1e9


def test_no_adapter_metric_without_adapters(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    metrics.record(SchedulerStats(), None)
    assert "lora" not in render(registry).decode()


def test_what_was_computed_for_nobody(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    def ended(reason: FinishReason, num_generated: int) -> RequestTimes:
        return RequestTimes(
            1.0, finish_reason=str(reason), num_prompt_tokens=10, num_tokens=num_generated, num_cached_tokens=4
        )

    finished = [ended(FinishReason.ABORT, 3), ended(FinishReason.ABORT, 0), ended(FinishReason.STOP, 9)]
    metrics.record(None, IterationStats(finished=finished))
    assert value(registry, "aborted_tokens_total", kind="generation") == 3
    assert value(registry, "aborted_tokens_total", kind="prompt") == 6


def test_reasons_to_wait_add_up(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    """Those whose grammar is being compiled stand in no queue, but they wait."""
    waiting_for = WaitingFor(blocks=3, grammar=2, adapter=1)
    metrics.record(SchedulerStats(num_waiting=4, waiting_for=waiting_for), None)
    assert value(registry, "num_requests_waiting") == 6
    assert value(registry, "num_requests_waiting_by_reason", reason="capacity") == 3
    assert value(registry, "num_requests_waiting_by_reason", reason="deferred") == 3
    shown = {r: value(registry, "num_requests_waiting_for", resource=r) for r in WAITED_FOR}
    assert shown == {"blocks": 3, "slots": 0, "budget": 0, "grammar": 2, "adapter": 1}
    metrics.record(SchedulerStats(), None)
    assert value(registry, "num_requests_waiting") == 0
    assert value(registry, "num_requests_waiting_for", resource="blocks") == 0


def test_parts_of_a_step(registry: CollectorRegistry, metrics: EngineMetrics) -> None:
    metrics.record(SchedulerStats(step_time_s=0.5, step_times=StepTimes(0.1, 0.2, 0.05, 0.15, 0.25)), None)
    metrics.record(SchedulerStats(step_time_s=9.0), None)  # nothing was computed
    assert value(registry, "engine_step_time_seconds_count") == 1
    sums = {p: value(registry, "engine_step_part_time_seconds_sum", part=p) for p in STEP_PARTS}
    assert sums == {"schedule": 0.1, "execute": 0.2, "sample": 0.05, "update": 0.15, "wire": 0.25}
    assert value(registry, "engine_step_part_time_seconds_bucket", part="sample", le="0.02") == 0
    assert value(registry, "engine_step_part_time_seconds_bucket", part="sample", le="0.05") == 1
