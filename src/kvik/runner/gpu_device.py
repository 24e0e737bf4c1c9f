"""A GPU as the device: Triton kernels, memory as it was measured, the forward pass in captured graphs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import groupby

import torch

from kvik.config import EngineConfig
from kvik.config.device_kind import check_device_kind
from kvik.errors import InsufficientMemoryError
from kvik.kernels import launch
from kvik.kernels.batch_rows import BatchArrays
from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.kernels.tape import Counts
from kvik.layers.batch import LayerKV
from kvik.messages import EngineFacts
from kvik.models import Model
from kvik.plan import GIB, KVCachePlan, MemoryBudget, available_kv_bytes, plan_kv_cache
from kvik.plan.explanation import explanation
from kvik.plan.formats import Kind
from kvik.plan.memory_plan import Device as PlannedDevice
from kvik.plan.memory_plan import compute
from kvik.plan.step_memory import (
    activation_bytes,
    kv_cache_dtype,
    kv_elements,
    max_logits_rows,
    sampling_bytes,
    share_of,
)
from kvik.plan.weights import StoredWeights
from kvik.runner.attention_choice import attention_of, say_attention
from kvik.runner.compile_ahead import compiling_ahead
from kvik.runner.compile_choice import compiled_for_graphs, compiling_beside_graphs
from kvik.runner.compiled_model import BackgroundCompilation
from kvik.runner.cuda_graphs import GraphedForward, GraphKey
from kvik.runner.device import ForwardPass
from kvik.runner.device_batch import DeviceBatch
from kvik.runner.dummy_steps import largest_step, steps_of_all_kernels
from kvik.runner.given_back import GivenBack
from kvik.runner.gpu import Gpu, HostCopy
from kvik.runner.graph_sizes import GraphSizes, sizes_of
from kvik.runner.memory_profile import MemoryProfile, measure_graphs, measure_step
from kvik.runner.progress import ProgressBar
from kvik.runner.trial_batches import trial_batches
from kvik.sampling.on_device import DeviceSampler
from kvik.step import MemoryPart
from kvik.telemetry.log import get_logger
from kvik.weights.lane import Lane

logger = get_logger(__name__)

_PROFILE_BLOCKS = 1
"""Of the KV cache while the largest step is measured: the null block, which is read and never written."""


class GpuDevice:
    kind: Kind = "cuda"

    def __init__(self, gpu: Gpu, free_at_start: int) -> None:
        """`free_at_start`: the GPU's free bytes before this process had a context on it."""
        self.place = gpu.place
        self._gpu = gpu
        self._free_at_start = free_at_start
        self._forward: ForwardPass | None = None
        self._first_keys: list[GraphKey] = []
        self._given_back = GivenBack(gpu)

    def say_what_computes(self) -> None:
        logger.info("Using Triton kernels on %s.", self._gpu.description)

    def compute_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return dtype

    def float_format(self, config: EngineConfig) -> str:
        return {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[config.model.dtype]

    def lane(self) -> Lane:
        return self._gpu.lane()

    # --- memory --------------------------------------------------------------------------------------

    def check_room(self, config: EngineConfig, weights_bytes: int, stored: StoredWeights) -> None:
        check_device_kind(config, "cuda")
        if launch.lacks_fp8() and (
            config.model.quantization == "fp8" or (stored.is_fp8 and not config.model.quantization)
        ):
            logger.info(
                "This GPU does not multiply 8-bit floats: weights stay so, their inputs are not rounded to them."
            )
        say_attention(config, "cuda")
        total = self._total_bytes(config)
        wanted = int(total * config.cache.gpu_memory_utilization)
        if wanted > self._free_at_start and config.cache.kv_cache_memory_bytes is None:
            share = int(100 * self._free_at_start / total) / 100
            raise InsufficientMemoryError(
                f"--gpu-memory-utilization {config.cache.gpu_memory_utilization:.2f} asks for {wanted / GIB:.2f} GiB, "
                f"but of the {total / GIB:.2f} GiB of {self._gpu.description} only {self._free_at_start / GIB:.2f} GiB "
                f"are free: end what else runs there, or set it to at most {share:.2f}"
            )
        budget = MemoryBudget(
            total, config.cache.gpu_memory_utilization, weights_bytes, activation_bytes(config, kind="cuda")
        )
        self._plan(config, budget, stored)

    def while_loading(self, config: EngineConfig, model: Model) -> AbstractContextManager[None]:
        kv = self.allocate_kv(config, _PROFILE_BLOCKS)
        forward = self._graphed(config, model, kv, _largest_counts(config))

        def run() -> None:
            self._gpu.enter_thread()
            with model.group.rehearsal():  # others compile at their own pace
                for step in steps_of_all_kernels(config, kv):
                    forward.logits(forward.forward_uncaptured(step), step.logits_rows)

        return compiling_ahead(run)

    def size_kv(self, config: EngineConfig, model: Model, adapters_bytes: int, stored: StoredWeights) -> EngineFacts:
        profile = self._profile(config, model)
        framework = profile.weights - model.weights_bytes - adapters_bytes + profile.outside_torch
        budget = MemoryBudget(
            total_bytes=self._total_bytes(config),
            utilization=config.cache.gpu_memory_utilization,
            weights_bytes=model.weights_bytes,
            activations_bytes=profile.activations + framework,
            graphs_bytes=profile.graphs,
            adapters_bytes=adapters_bytes,
        )
        plan = self._plan(config, budget, stored)
        facts = EngineFacts(
            device="cuda",
            kernels="triton",
            num_threads=torch.get_num_threads(),
            weights_bytes=model.weights_bytes,
            kv_cache_bytes=plan.pool_bytes,
            num_blocks=plan.num_blocks,
            block_size=plan.block_size,
            max_model_len=plan.max_model_len,
            activations_bytes=profile.activations,
            adapters_bytes=adapters_bytes,
            framework_bytes=framework,
            device_memory_bytes=budget.total_bytes,
            graphs_bytes=profile.graphs,
        )
        _log(config, budget, facts)
        return facts

    def allocate_kv(self, config: EngineConfig, num_blocks: int) -> list[LayerKV]:
        spec, dtype = share_of(config), getattr(torch, kv_cache_dtype(config, "cuda"))
        shape = num_blocks, spec.num_kv_heads, spec.head_dim, config.cache.block_size
        attend = attention_of(config, "cuda").attend
        return [LayerKV(*allocate_kv_cache(*shape, dtype, device=self.place), attend) for _ in range(spec.num_layers)]

    def _total_bytes(self, config: EngineConfig) -> int:
        asked = config.cache.device_memory_bytes
        return self._gpu.memory().total if asked is None else asked

    def _plan(self, config: EngineConfig, budget: MemoryBudget, stored: StoredWeights) -> KVCachePlan:
        elements = kv_elements(kv_cache_dtype(config, "cuda"))
        try:
            return plan_kv_cache(share_of(config), config.cache, budget, elements, config.model.max_model_len)
        except InsufficientMemoryError as error:
            planned = PlannedDevice(
                budget.total_bytes, "cuda", config.parallel.tensor_parallel_size, weights_bytes=budget.weights_bytes,
                activations_bytes=budget.activations_bytes, graphs_bytes=budget.graphs_bytes,
            )  # fmt: skip
            raise InsufficientMemoryError(f"{error}\n{explanation(compute(config, stored, planned), stored)}") from None

    def _profile(self, config: EngineConfig, model: Model) -> MemoryProfile:
        """Of the largest step, and of all graphs, with a KV cache of the null block alone."""
        kv = self.allocate_kv(config, _PROFILE_BLOCKS)
        most = _largest_counts(config)
        step = largest_step(config, kv)
        forward = self._graphed(config, model, kv, most)

        def run() -> None:
            hidden = forward.forward_uncaptured(step)
            forward.logits(hidden, step.logits_rows)

        profile = measure_step(self._gpu, self._free_at_start, run)
        keys = _keys(_graph_sizes(config))
        modes = groupby(keys, key=lambda key: key.mode)
        graphs = measure_graphs(self._gpu, [[partial(forward.capture, key) for key in of_mode] for _, of_mode in modes])
        forward.drop_all()
        if config.compilation.is_in_background:
            graphs *= 2  # those of the compiled model stand beside them until it is known which are faster
        activations = profile.activations + sampling_bytes(config)
        return MemoryProfile(profile.weights, activations, profile.outside_torch, graphs)

    # --- steps ---------------------------------------------------------------------------------------

    def forward_pass(
        self, config: EngineConfig, model: Model, kv: list[LayerKV], arrays: BatchArrays, most: Counts
    ) -> ForwardPass:
        running = self._graphed(config, compiled_for_graphs(config.compilation, model), kv, most)
        self._first_keys = _keys(_graph_sizes(config).first)
        self._capture(running)
        self._forward = running
        if config.compilation.is_in_background:
            self._forward = compiling_beside_graphs(
                config.compilation, model, running, config.model.max_model_len or model.spec.max_position_embeddings,
                trial_batches(arrays, kv, config.cache.block_size, most),
                lambda compiled: self._graphed(config, compiled, kv, most), self._gpu,
            )  # fmt: skip
        return self._forward

    def chooser(self, config: EngineConfig) -> DeviceSampler:
        return DeviceSampler(
            self.place, partial(HostCopy, self._gpu), config.model.logprobs_mode, config.scheduler.max_num_seqs,
            config.model.spec.vocab_size,
        )  # fmt: skip

    def give_back(self, part: MemoryPart, tensors: Sequence[torch.Tensor]) -> int:
        """The graphs go with it, since they hold addresses."""
        self._gpu.synchronize()
        for forward in self._passes():
            forward.drop_all()
        num_bytes = self._given_back.give_back(part, tensors)
        self._gpu.release_unused()
        return num_bytes

    def take_again(self, part: MemoryPart) -> None:
        """Once nothing is missing, the graphs of a start are captured again."""
        self._given_back.take_again(part)
        if self._given_back.is_empty and isinstance(running := self._running(), GraphedForward):
            self._capture(running)

    def use_idle_time(self) -> bool:
        is_unsettled = isinstance(self._forward, BackgroundCompilation) and self._forward.use_idle_time()
        running = self._running()
        return (isinstance(running, GraphedForward) and running.capture_wanted()) or is_unsettled

    def _running(self) -> ForwardPass | None:
        return self._forward.running if isinstance(self._forward, BackgroundCompilation) else self._forward

    def _passes(self) -> list[GraphedForward]:
        """All that may have graphs; waits for one that is being made."""
        passes = [self._forward]
        if isinstance(self._forward, BackgroundCompilation):
            passes = list(self._forward.all_passes())
        return [forward for forward in passes if isinstance(forward, GraphedForward)]

    def count_progress_at(self, address: int) -> None:
        """Nothing: a step on a GPU has no native work on the host that could be counted."""

    def _graphed(self, config: EngineConfig, model: Model, kv: list[LayerKV], most: Counts) -> GraphedForward:
        batch = DeviceBatch(self._gpu, kv, most, max_logits_rows(config))
        return GraphedForward(self._gpu, model, kv, batch, _graph_sizes(config))

    def _capture(self, forward: GraphedForward) -> None:
        if not self._first_keys:
            return
        started, held = time.perf_counter(), self._gpu.memory().free
        bar = ProgressBar("Capturing CUDA graphs")
        for num_done, key in enumerate(self._first_keys, start=1):
            forward.capture(key)
            bar.advance(f"{key.mode} {key.size}", num_done, len(self._first_keys))
        self._gpu.synchronize()
        logger.info(
            "Graph capturing finished in %.0f secs, took %.2f GiB",
            time.perf_counter() - started, max(0, held - self._gpu.memory().free) / GIB,
        )  # fmt: skip


def _graph_sizes(config: EngineConfig) -> GraphSizes:
    """What is asked for, without whole steps where attention waits for the device."""
    sizes = sizes_of(config)
    return sizes if attention_of(config, "cuda").is_capturable else replace(sizes, full=())


def _largest_counts(config: EngineConfig) -> Counts:
    """Sizes of the arrays of a step."""
    max_model_len = config.model.max_model_len or config.model.spec.max_position_embeddings
    tokens = max(config.scheduler.max_num_batched_tokens, config.cache.block_size, sizes_of(config).largest)
    requests = max(config.scheduler.max_num_seqs, sizes_of(config).largest)
    return Counts(tokens, requests, -(-max_model_len // config.cache.block_size))


def _keys(sizes: GraphSizes) -> list[GraphKey]:
    """Largest first, so that the smaller ones find their memory there."""
    piecewise = [GraphKey("PIECEWISE", size) for size in reversed(sizes.piecewise)]
    return piecewise + [GraphKey("FULL", size) for size in reversed(sizes.full)]


def _log(config: EngineConfig, budget: MemoryBudget, facts: EngineFacts) -> None:
    if config.cache.num_blocks_override is not None:
        logger.info("Overriding the number of KV blocks with %d", config.cache.num_blocks_override)
    logger.info(
        "Memory: %.2f GiB x %.2f, less %.2f GiB of weights, %.2f GiB of activations and framework, and %.2f GiB of "
        "graphs", budget.total_bytes / GIB, budget.utilization, budget.weights_bytes / GIB,
        budget.activations_bytes / GIB, budget.graphs_bytes / GIB,
    )  # fmt: skip
    logger.info("Available KV cache memory: %.2f GiB", available_kv_bytes(config.cache, budget) / GIB)
    logger.info("GPU KV cache size: %s tokens", f"{facts.kv_cache_size_tokens:,}")
    logger.info(
        "Maximum concurrency for %s tokens per request: %.2fx", f"{facts.max_model_len:,}", facts.max_concurrency
    )
