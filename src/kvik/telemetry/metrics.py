"""The Prometheus metrics of one engine: their names, labels and buckets, and how statistics become their values.

Knows no HTTP. Every label combination exists from the start, so that a rate over a quiet hour is 0 and not absent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kvik.config.engine import EngineConfig
from kvik.config.not_yet import NOT_YET
from kvik.config.speculative import SpeculativeConfig
from kvik.messages import EngineFacts, FinishReason, SchedulerStats, SpecDecodeStats
from kvik.telemetry.buckets import bucket_families
from kvik.telemetry.prefixes import OWN_PREFIX
from kvik.telemetry.stats import FinishedRequestStats, IterationStats

M = TypeVar("M", Gauge, Counter, Histogram)

PROMPT_SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
CACHE_TIERS = ("device", "host", "disk", "p2p", "external_unspecified")
WAITING_REASONS = ("capacity", "deferred")
SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")
_STATE_BY_LEVEL = {None: "awake", 0: "awake", 1: "weights_offloaded", 2: "discard_all"}
"""The field's words; at level 1 weights stay where they are, for on a CPU there is nowhere else."""
ABORTED_KINDS = ("prompt", "generation")
REJECTION_REASONS = ("max_num_queued_reqs", "max_num_queued_tokens", "queue_timeout", "deadline")


class EngineMetrics:
    """All metrics of one engine. `record` is called once per engine step."""

    def __init__(
        self,
        registry: CollectorRegistry,
        config: EngineConfig,
        facts: EngineFacts,
        custom_buckets: Mapping[str, Sequence[float]] | None = None,
        engine_index: int = 0,
    ) -> None:
        self._make = _Maker(registry, config.model.served_model_names[0], str(engine_index))
        self._buckets = bucket_families(facts.max_model_len, custom_buckets)
        self._last_state = 0, 0, 0.0
        """Running, waiting, cache usage, as the gauges have them."""
        self._make_gauges()
        self._make_counters()
        self._make_draft_counters(config.speculative)
        self._make_latency_histograms()
        self._make_request_histograms()
        self._loras = None if config.lora is None else LoraInfo(registry, config.lora.max_loras)
        _set_cache_config_info(registry, config, facts, str(engine_index))

    def _make_gauges(self) -> None:
        gauge, gauges = self._make.gauge, self._make.gauges
        self._running = gauge("num_requests_running", "Requests that the last step computed or could have.")
        self._waiting = gauge("num_requests_waiting", "Requests that wait for their first or next admission.")
        self._waiting_by_reason = gauges(
            "num_requests_waiting_by_reason", "The same, by what they wait for.", "reason", WAITING_REASONS
        )
        self._kv_cache_usage = gauge("kv_cache_usage_perc", "Share of the usable KV blocks in use, from 0 to 1.")
        self._sleep = gauges(
            "engine_sleep_state", "1 for the state that the engine is in.", "sleep_state", SLEEP_STATES
        )
        self.record_sleep(None)

    def _make_counters(self) -> None:
        counter, counters = self._make.counter, self._make.counters
        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens whose prefill is done, cached ones included.")
        self._prompt_by_source = counters(
            "prompt_tokens_by_source", "The same, by where their keys and values came from.", "source", PROMPT_SOURCES
        )
        self._cached_tokens = counter("prompt_tokens_cached", "Prompt tokens found in a cache.")
        self._cached_by_source = counters(
            "prompt_tokens_cached_by_source", "The same, by the cache's tier.", "source", CACHE_TIERS
        )
        self._generation_tokens = counter("generation_tokens", "Tokens generated.")
        self._success = counters(
            "request_success", "Finished requests, whatever the outcome.", "finished_reason", map(str, FinishReason)
        )
        self._preemptions = counter("num_preemptions", "Requests taken out of the batch to make room.")
        self._aborted_tokens = counters(
            "aborted_tokens", "Tokens of requests that were aborted: computed for nobody.", "kind", ABORTED_KINDS
        )
        self._restarts = counter("engine_restarts", "Engines that died and were replaced.")
        self._resumed = counter("requests_resumed", "Requests that went on in another engine than they began in.")
        self._cache_queries = counter("prefix_cache_queries", "Tokens looked up in the prefix cache.")
        self._cache_hits = counter("prefix_cache_hits", "Tokens found in the prefix cache.")
        for name in ("external_prefix_cache", "mm_cache"):
            counter(f"{name}_queries", "Always 0: kvik has no such cache yet.")
            counter(f"{name}_hits", "Always 0: kvik has no such cache yet.")
        self._rejections = self._make.counters_without_engine(
            "admission_rejections",
            "Requests refused or given up with 429.",
            "reason",
            REJECTION_REASONS,
        )

    def _make_draft_counters(self, speculative: SpeculativeConfig | None) -> None:
        """None of them without drafts. Acceptance rate: accepted / draft tokens; mean length: 1 + accepted / drafts."""
        if speculative is None:
            return
        counter = self._make.counter
        self._drafts = counter("spec_decode_num_drafts", "Drafts that were verified, one per request and step.")
        self._draft_tokens = counter("spec_decode_num_draft_tokens", "Tokens of those drafts.")
        self._accepted_tokens = counter("spec_decode_num_accepted_tokens", "Those of them that came true.")
        positions = map(str, range(speculative.num_speculative_tokens))
        by_position = self._make.counters(
            "spec_decode_num_accepted_tokens_per_pos", "The same, by place in the draft.", "position", positions
        )
        self._accepted_by_position = list(by_position.values())

    def _make_latency_histograms(self) -> None:
        def histogram(name: str, about: str, family: str = "request_latency") -> Histogram:
            return self._make.histogram(name, about, self._buckets[family])

        self._ttft = histogram("time_to_first_token_seconds", "Arrival to the first token.", "time_to_first_token")
        self._itl = histogram("inter_token_latency_seconds", "Between outputs of a request.", "inter_token_latency")
        self._tpot = histogram(
            "request_time_per_output_token_seconds", "Mean time per token after the first.", "inter_token_latency"
        )
        self._e2e = histogram("e2e_request_latency_seconds", "Arrival to the end.")
        self._queue = histogram("request_queue_time_seconds", "Queued to the first admission.")
        self._prefill = histogram("request_prefill_time_seconds", "First admission to the first token.")
        self._decode = histogram("request_decode_time_seconds", "First token to the last.")
        self._inference = histogram("request_inference_time_seconds", "First admission to the last token.")

    def _make_request_histograms(self) -> None:
        def histogram(name: str, about: str, family: str = "request_tokens") -> Histogram:
            return self._make.histogram(name, about, self._buckets[family])

        self._request_prompt = histogram("request_prompt_tokens", "Prompt tokens per request.")
        self._request_generation = histogram("request_generation_tokens", "Generated tokens per request.")
        self._request_longest = histogram("request_max_num_generation_tokens", "Tokens of the longest of n answers.")
        self._request_max_tokens = histogram(
            "request_params_max_tokens", "The limit on the answer, where there is one."
        )
        self._request_n = histogram("request_params_n", "Answers asked for.", "request_params_n")
        self._request_computed = histogram(
            "request_prefill_kv_computed_tokens", "Prompt tokens that no cache had, per request."
        )
        self._request_preemptions = histogram(
            "request_num_preemptions", "Preemptions per request.", "request_num_preemptions"
        )
        self._iteration_tokens = histogram(
            "iteration_tokens_total", "Prompt tokens computed and tokens generated, per step.", "iteration_tokens"
        )

    def record_recovery(self, num_requests: int) -> None:
        """The engine was replaced, and this many requests go on."""
        self._restarts.inc()
        self._resumed.inc(num_requests)

    def record_rejection(self, reason: str) -> None:
        """A request was turned away: one of `REJECTION_REASONS`."""
        self._rejections[reason].inc()

    def record_sleep(self, level: int | None) -> None:
        """The engine sleeps at `level` now; None: it is awake."""
        for state, gauge in self._sleep.items():
            gauge.set(state == _STATE_BY_LEVEL[level])

    def record(self, stats: SchedulerStats | None, iteration: IterationStats | None) -> None:
        """Take in one step: the scheduler's state, if it came along, and what the step brought."""
        if stats is not None:
            self._record_scheduler(stats)
        if iteration is not None:
            self._record_iteration(iteration)

    def _record_scheduler(self, stats: SchedulerStats) -> None:
        state = stats.num_running, stats.num_waiting, stats.kv_cache_usage
        if state != self._last_state:  # most steps change nothing here, and each metric costs microseconds
            self._last_state = state
            self._running.set(stats.num_running)
            self._waiting.set(stats.num_waiting)
            self._waiting_by_reason["capacity"].set(stats.num_waiting)
            self._kv_cache_usage.set(stats.kv_cache_usage)
        _add(self._preemptions, stats.num_preemptions)
        _add(self._cache_queries, stats.prefix_cache_queries)
        _add(self._cache_hits, stats.prefix_cache_hits)
        if self._loras is not None:
            self._loras.record(stats.running_loras, stats.waiting_loras)
        if stats.spec_decode is not None:
            self._record_drafts(stats.spec_decode)

    def _record_drafts(self, drafts: SpecDecodeStats) -> None:
        self._drafts.inc(drafts.num_drafts)
        self._draft_tokens.inc(drafts.num_draft_tokens)
        self._accepted_tokens.inc(drafts.num_accepted_tokens)
        for counter, num_accepted in zip(self._accepted_by_position, drafts.num_accepted_tokens_per_pos, strict=False):
            counter.inc(num_accepted)

    def _record_iteration(self, iteration: IterationStats) -> None:
        computed = iteration.num_computed_prompt_tokens
        _add(self._prompt_tokens, iteration.num_prompt_tokens)
        _add(self._prompt_by_source["local_compute"], computed)
        _add(self._prompt_by_source["local_cache_hit"], iteration.num_cached_tokens)
        _add(self._cached_tokens, iteration.num_cached_tokens)
        _add(self._cached_by_source["device"], iteration.num_cached_tokens)
        _add(self._generation_tokens, iteration.num_generation_tokens)
        self._iteration_tokens.observe(computed + iteration.num_generation_tokens)
        _observe_all(self._ttft, iteration.time_to_first_token_s)
        _observe_all(self._itl, iteration.inter_token_latency_s)
        _observe_all(self._request_n, iteration.finished_n)
        _observe_all(self._request_longest, iteration.finished_max_generation_tokens)
        for finished in iteration.finished:
            self._record_finished(finished)

    def _record_aborted(self, finished: FinishedRequestStats) -> None:
        """A prompt counts once it has brought a token: before that, how far it got is known to the engine only."""
        _add(self._aborted_tokens["generation"], finished.num_generation_tokens)
        if finished.num_generation_tokens:
            _add(self._aborted_tokens["prompt"], finished.num_prompt_tokens - finished.num_cached_tokens)

    def _record_finished(self, finished: FinishedRequestStats) -> None:
        self._success[str(finished.finish_reason)].inc()
        if finished.finish_reason is FinishReason.ABORT:
            self._record_aborted(finished)
        self._e2e.observe(finished.e2e_s)
        self._queue.observe(finished.queue_s)
        self._prefill.observe(finished.prefill_s)
        self._decode.observe(finished.decode_s)
        self._inference.observe(finished.inference_s)
        self._tpot.observe(finished.time_per_output_token_s)
        self._request_prompt.observe(finished.num_prompt_tokens)
        self._request_generation.observe(finished.num_generation_tokens)
        self._request_computed.observe(finished.num_prompt_tokens - finished.num_cached_tokens)
        self._request_preemptions.observe(finished.num_preemptions)
        if finished.max_tokens is not None:
            self._request_max_tokens.observe(finished.max_tokens)


class LoraInfo:
    """A gauge whose labels say which adapters are in use; its value is when that was so, in Unix time.

    As others have it, each set of names has a series of its own. Here only the newest is kept: names come and go.
    """

    def __init__(self, registry: CollectorRegistry, max_loras: int, clock: Callable[[], float] = time.time) -> None:
        self._gauge = Gauge(
            OWN_PREFIX + "lora_requests_info",
            "Adapters of running and of waiting requests; the value is the Unix time of the newest step.",
            ["max_lora", "waiting_lora_adapters", "running_lora_adapters"],
            registry=registry,
        )
        self._max_loras = str(max_loras)
        self._clock = clock
        self._last: tuple[list[str], list[str]] | None = None
        self.record([], [])

    def record(self, running: list[str], waiting: list[str]) -> None:
        if self._last != (running, waiting):
            self._gauge.clear()
            self._last = running, waiting
        self._gauge.labels(self._max_loras, ",".join(waiting), ",".join(running)).set(self._clock())


class _Maker:
    """Makes metrics with the labels that nearly all of them carry already filled in."""

    def __init__(self, registry: CollectorRegistry, model_name: str, engine: str) -> None:
        self._registry, self._model_name, self._engine = registry, model_name, engine

    def gauge(self, name: str, about: str) -> Gauge:
        return self._labelled(Gauge, name, about)

    def counter(self, name: str, about: str) -> Counter:
        return self._labelled(Counter, name, about)

    def histogram(self, name: str, about: str, buckets: Sequence[float]) -> Histogram:
        return self._labelled(Histogram, name, about, buckets=buckets)

    def gauges(self, name: str, about: str, label: str, values: Iterable[str]) -> dict[str, Gauge]:
        return self._split(Gauge, name, about, label, values)

    def counters(self, name: str, about: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
        return self._split(Counter, name, about, label, values)

    def counters_without_engine(self, name: str, about: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
        metric = Counter(OWN_PREFIX + name, about, ["model_name", label], registry=self._registry)
        return {value: metric.labels(self._model_name, value) for value in values}

    def _labelled(self, kind: type[M], name: str, about: str, **options: Any) -> M:
        labels = ["model_name", "engine"]
        metric = kind(OWN_PREFIX + name, about, labels, registry=self._registry, **options)
        return metric.labels(self._model_name, self._engine)

    def _split(self, kind: type[M], name: str, about: str, label: str, values: Iterable[str]) -> dict[str, M]:
        metric = kind(OWN_PREFIX + name, about, ["model_name", "engine", label], registry=self._registry)
        return {value: metric.labels(self._model_name, self._engine, value) for value in values}


def _add(counter: Counter, amount: int) -> None:
    if amount:
        counter.inc(amount)


def _observe_all(histogram: Histogram, values: Iterable[float]) -> None:
    for value in values:
        histogram.observe(value)


def _set_cache_config_info(registry: CollectorRegistry, config: EngineConfig, facts: EngineFacts, engine: str) -> None:
    """A gauge that is always 1 and says in its labels what the KV cache is; what kvik lacks is at its default."""
    cache = config.cache
    labels: dict[str, object] = {f.dest: f.default for f in NOT_YET if f.group == "CacheConfig"}
    labels |= {
        "block_size": facts.block_size,
        "cache_dtype": cache.kv_cache_dtype,
        "enable_prefix_caching": cache.enable_prefix_caching,
        "gpu_memory_utilization": cache.gpu_memory_utilization,
        "kv_cache_max_concurrency": round(facts.max_concurrency, 2),
        "kv_cache_memory_bytes": facts.kv_cache_bytes,
        "kv_cache_size_tokens": facts.kv_cache_size_tokens,
        "num_cpu_blocks": 0,
        "num_gpu_blocks": facts.num_blocks,
        "num_gpu_blocks_override": cache.num_blocks_override,
        "prefix_caching_hash_algo": cache.prefix_caching_hash_algo,
    }
    about = "What the KV cache is; num_gpu_blocks are blocks of the device that computes."
    info = Gauge(OWN_PREFIX + "cache_config_info", about, ["engine", *labels], registry=registry)
    info.labels(engine, *map(str, labels.values())).set(1)
