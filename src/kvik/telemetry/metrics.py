"""The Prometheus metrics of one engine: their names, labels and buckets, and how statistics become their values.

Knows no HTTP. Every label combination exists from the start, so that a rate over a quiet hour is 0 and not absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kvik.config.device_kind import name_of
from kvik.config.engine import EngineConfig
from kvik.config.not_yet import NOT_YET
from kvik.config.speculative import SpeculativeConfig
from kvik.messages import EngineFacts, FinishReason, SchedulerStats, SpecDecodeStats
from kvik.telemetry.buckets import bucket_families
from kvik.telemetry.lora_metrics import LoraInfo
from kvik.telemetry.metric_maker import MetricMaker
from kvik.telemetry.prefixes import OWN_PREFIX
from kvik.telemetry.request_times import RequestTimes
from kvik.telemetry.stats import IterationStats
from kvik.telemetry.step_metrics import StepMetrics
from kvik.telemetry.waiting_metrics import WaitingMetrics

PROMPT_SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
CACHE_TIERS = ("device", "host", "disk", "p2p", "external_unspecified")
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
        self._make = MetricMaker(registry, config.model.served_model_names[0], str(engine_index))
        self._buckets = bucket_families(facts.max_model_len, custom_buckets)
        self._last_state: tuple[object, ...] = ()
        """What the gauges show."""
        self._make_gauges()
        self._make_counters()
        self._make_draft_counters(config.speculative)
        self._make_latency_histograms()
        self._make_request_histograms()
        self._waiting = WaitingMetrics(self._make)
        self._steps = StepMetrics(self._make, self._buckets["engine_step"])
        self._loras = None if config.lora is None else LoraInfo(registry, config.lora.max_loras)
        _set_cache_config_info(registry, config, facts, str(engine_index))

    def _make_gauges(self) -> None:
        gauge, gauges = self._make.gauge, self._make.gauges
        self._running = gauge("num_requests_running", "Requests that the last step computed or could have.")
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
        state = stats.num_running, stats.num_waiting, stats.waiting_for, stats.kv_cache_usage
        if state != self._last_state:  # most steps change nothing here, and each metric costs microseconds
            self._last_state = state
            self._running.set(stats.num_running)
            self._waiting.set(stats)
            self._kv_cache_usage.set(stats.kv_cache_usage)
        _add(self._preemptions, stats.num_preemptions)
        _add(self._cache_queries, stats.prefix_cache_queries)
        _add(self._cache_hits, stats.prefix_cache_hits)
        if stats.step_times is not None:
            self._steps.record(stats.step_time_s, stats.step_times)
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

    def _record_aborted(self, finished: RequestTimes) -> None:
        """A prompt counts once it has brought a token: before that, how far it got is known to the engine only."""
        _add(self._aborted_tokens["generation"], finished.num_tokens)
        if finished.num_tokens:
            _add(self._aborted_tokens["prompt"], finished.num_prompt_tokens - finished.num_cached_tokens)

    def _record_finished(self, finished: RequestTimes) -> None:
        self._success[finished.finish_reason or ""].inc()
        if finished.finish_reason == str(FinishReason.ABORT):
            self._record_aborted(finished)
        self._e2e.observe(finished.total_s)
        self._queue.observe(finished.queue_s)
        self._prefill.observe(finished.prefill_s)
        self._decode.observe(finished.decode_s)
        self._inference.observe(finished.inference_s)
        self._tpot.observe(finished.time_per_output_token_s)
        self._request_prompt.observe(finished.num_prompt_tokens)
        self._request_generation.observe(finished.num_tokens)
        self._request_computed.observe(finished.num_prompt_tokens - finished.num_cached_tokens)
        self._request_preemptions.observe(finished.num_preemptions)
        if finished.max_tokens is not None:
            self._request_max_tokens.observe(finished.max_tokens)


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
        "cache_dtype": name_of(cache.kv_cache_dtype),
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
