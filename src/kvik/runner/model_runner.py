"""StepPlan -> ForwardBatch -> logits -> token ids. Owns the model and the memory of keys and values.

Knows nothing of queues, clients or text: a plan comes in, a result goes out, and nothing here decides who runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import torch

from kvik.config import EngineConfig
from kvik.errors import ConfigError, InsufficientMemoryError, KvikError, ModelFileError, RequestError
from kvik.kernels.batch_rows import BatchArrays
from kvik.kernels.tape import Counts
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.layers.formats import formats_in_memory
from kvik.messages import EngineFacts, LoraRequest
from kvik.modelfile import ModelFile, open_model
from kvik.models import Model, build_model
from kvik.parallel.group import ALONE, Group
from kvik.plan import NUM_NULL_BLOCKS
from kvik.plan.step_memory import max_logits_rows
from kvik.plan.stored import stored_weights
from kvik.plan.weights import StoredWeights
from kvik.runner.adapters import Adapters
from kvik.runner.batch_builder import BatchBuilder
from kvik.runner.device import Device
from kvik.runner.last_tokens import LastTokens, places_in_flight
from kvik.runner.progress import LoadingBar
from kvik.runner.request_table import RequestTable
from kvik.runner.result_builder import PendingStep, ResultBuilder
from kvik.runner.warm_up import warm_up_plan
from kvik.runner.weights_progress import WeightsProgress
from kvik.step import AdmittedRequest, MemoryPart, SampledTokens, ScheduledRequest, StepPlan, StepResult
from kvik.telemetry.log import get_logger
from kvik.telemetry.phases import PhaseTimer
from kvik.weights import Checkpoint, open_checkpoint

logger = get_logger(__name__)

GIB = 1 << 30


class ModelRunner:
    """One model on one device, or one worker's part of it. `start` once, then `execute` per step."""

    def __init__(self, config: EngineConfig, device: Device, group: Group = ALONE) -> None:
        """`group`: the workers that share the model, each with a runner that is given the same plans.

        All of them choose the same tokens, from the same logits and by the same random numbers, so that none needs to
        be told what another one chose.
        """
        self._group = group
        self._config = config
        self._device = device

    def start(self, phases: PhaseTimer) -> EngineFacts:
        """Load the weights, reserve the KV cache, warm up.

        Raises `ModelFileError`, `UnsupportedArchitectureError` or `InsufficientMemoryError`.
        """
        self._device.say_what_computes()
        with phases.phase("load weights") as phase:
            model = self._load_model(WeightsProgress(phases, phase))
        started = time.perf_counter()
        with phases.phase("profile"):
            self._adapters, adapters_bytes = self._reserve_adapters(model)
            facts = self._agree(self._device.size_kv(self._config, model, adapters_bytes, self._stored))
        with phases.phase("reserve KV cache") as phase:
            self._kv: list[LayerKV] = self._device.allocate_kv(self._config, facts.num_blocks + NUM_NULL_BLOCKS)
            phase.num_bytes = facts.kv_cache_bytes
        with phases.phase("capture"):
            self._prepare(model, facts)
        with phases.phase("warm up"):
            self._warm_up(facts)
        seconds = time.perf_counter() - started
        logger.info("init engine (profile, create kv cache, warmup model) took %.2f seconds", seconds)
        return facts

    def execute(self, plan: StepPlan) -> StepResult:
        """Compute one step. What one request causes is its `SampledTokens.error`; its neighbours go on."""
        return self.submit(plan).result()

    def submit(self, plan: StepPlan) -> PendingStep | IncompleteStep:
        """Build a step's batch and launch it, whether or not those before it are finished.

        Inputs that a step before is still choosing are filled in on the device. `result` waits.
        """
        for request_id in plan.dropped_request_ids:
            self._table.drop(request_id)
        refused = [failure for request in plan.admitted if (failure := self._admit(request)) is not None]
        refused += [_unknown(s) for s in plan.scheduled if s.request_id not in self._table]
        if refused:
            return self._submit_without(plan, refused)
        batch, rows = self._batches.build(plan)
        if places := places_in_flight(plan.scheduled, rows):
            batch = self._filled_in(batch, places)
        hidden = self._model.forward(batch)
        return self._results.launch(plan, batch, rows, hidden)

    @property
    def launches(self) -> bool:
        """Whether `submit` only queues a step's work, for a device to do by itself."""
        return self._device.kind != "cpu"

    def count_progress_at(self, address: int) -> None:
        """Kernels count up the u64 at `address` from now on."""
        self._device.count_progress_at(address)

    def use_idle_time(self) -> bool:
        """Do a piece of what later steps will be glad of. Whether there is more."""
        return self._device.use_idle_time()

    def load_lora(self, lora: LoraRequest, slot: int | None) -> None:
        """Put an adapter into a slot that no request uses; None: only see whether it could be. Raises `KvikError`."""
        if self._adapters is None:
            raise ConfigError("adapters are off; start with --enable-lora")
        if slot is None:
            self._adapters.check(lora)
        else:
            self._adapters.ensure(lora, slot)

    # --- memory that a sleeping engine gives back ------------------------------------------------------

    def release(self, part: MemoryPart) -> int:
        """Give back the memory of all keys and values, or of the weights, bytes. No request may be running.

        `restore` comes before the next step; keys and values on a CPU can do without.
        """
        if part == "weights":
            return self._device.give_back(part, self._weights.memory)
        return self._device.give_back(part, [tensor for layer in self._kv for tensor in (layer.k, layer.v)])

    def restore(self, part: MemoryPart) -> None:
        """Raises `ModelFileError` where the weights cannot be read again, `InsufficientMemoryError` where somebody else
        has the memory by now. It can be tried again."""
        if part == "weights":
            model_file, checkpoint = self._open_checkpoint()
            self._device.take_again(part)
            self._fill(self._weights, model_file, checkpoint)
        else:
            self._device.take_again(part)

    # --- steps ---------------------------------------------------------------------------------------

    def _filled_in(self, batch: ForwardBatch, places: list[tuple[int, int]]) -> ForwardBatch:
        """With the tokens that steps before chose, at once, or on the device when the batch is there."""
        if self._device.kind != "cpu":
            return replace(batch, fill_in=partial(self._last_tokens.fill, places=places))
        self._last_tokens.fill(batch.token_ids, places)
        return batch

    def _admit(self, request: AdmittedRequest) -> SampledTokens | None:
        """Take the request in, or say why not."""
        try:
            if request.lora is not None:
                self._load_everywhere(request.lora, request.lora_slot)
            self._table.admit(request)
        except KvikError as error:
            param = error.param if isinstance(error, RequestError) else None
            return SampledTokens(request.request_id, [], error=str(error), error_param=param)
        return None

    def _load_everywhere(self, lora: LoraRequest, slot: int) -> None:
        """Raises `ModelFileError` with every worker, or with none: they must go on with the same requests."""
        failure = None
        try:
            self.load_lora(lora, slot)
        except KvikError as error:
            failure = error
        is_missing = self._group.any(failure is not None)
        if failure is not None:
            raise failure
        if is_missing:
            raise ModelFileError(f"adapter {lora.lora_name} could not be read by every worker; the log says why")

    def _submit_without(self, plan: StepPlan, refused: list[SampledTokens]) -> IncompleteStep:
        """Launch the requests of the plan that could be admitted."""
        failures = {failure.request_id: failure for failure in reversed(refused)}
        rest = [s for s in plan.scheduled if s.request_id not in failures]
        return IncompleteStep(plan, self.submit(StepPlan([], rest, [])) if rest else None, failures)

    # --- start ---------------------------------------------------------------------------------------

    def _load_model(self, progress: WeightsProgress) -> Model:
        asked = self._config.model
        logger.info("Starting to load model %s...", asked.model)
        started = time.perf_counter()
        model_file, checkpoint = self._open_checkpoint()
        dtype = getattr(torch, asked.dtype)
        max_positions = asked.max_model_len or asked.spec.max_position_embeddings
        stored = model_file.quantization if model_file else None
        quantize_embedding = stored is not None and stored.embedding_bits == 8
        floats = self._device.float_format(self._config)
        formats = formats_in_memory(
            asked.quantization, checkpoint, floats, quantize_embedding=quantize_embedding,
            keeps_fp8=self._device.kind != "cpu",
        )  # fmt: skip
        model = build_model(
            asked.spec, dtype, self._device.place, max_positions=max_positions, format_of=formats,
            compute_dtype=self._device.compute_dtype(dtype), group=self._group,
        )  # fmt: skip
        self._stored: StoredWeights = stored_weights(model_file)
        self._device.check_room(self._config, model.weights_bytes, self._stored)
        with self._device.while_loading(self._config, model):
            self._fill(model, model_file, checkpoint, progress)
        seconds = time.perf_counter() - started
        logger.info("Loading weights took %.2f seconds", seconds)
        logger.info("Model loading took %.4f GiB and %.6f seconds", model.weights_bytes / GIB, seconds)
        logger.info("Weights by format: %s", _by_format(model.weights_bytes_by_format))
        return model

    def _agree(self, facts: EngineFacts) -> EngineFacts:
        """What all workers have room for."""
        if self._group.size == 1:
            return facts
        num_blocks, max_model_len = self._group.least([facts.num_blocks, facts.max_model_len])
        logger.info(
            "KV blocks of this worker: %d of %d that fit, the least of all %d workers",
            num_blocks, facts.num_blocks, self._group.size,
        )  # fmt: skip
        block_bytes = facts.kv_cache_bytes // (facts.num_blocks + NUM_NULL_BLOCKS)
        return msgspec.structs.replace(
            facts,
            num_blocks=num_blocks,
            max_model_len=max_model_len,
            kv_cache_bytes=block_bytes * (num_blocks + NUM_NULL_BLOCKS),
        )

    def _open_checkpoint(self) -> tuple[ModelFile | None, Checkpoint | None]:
        """None for random weights."""
        if self._config.load.load_format == "dummy":
            return None, None
        model_file = open_model(self._config.model.model)
        return model_file, open_checkpoint(model_file)

    def _fill(
        self,
        model: Model,
        model_file: ModelFile | None,
        checkpoint: Checkpoint | None,
        progress: WeightsProgress | None = None,
    ) -> None:
        if model_file is None or checkpoint is None:
            model.load_dummy(self._config.model.seed)
            return
        kind = "gguf" if model_file.format == "gguf" else "safetensors"
        bar = LoadingBar(kind, enabled=self._config.load.use_tqdm_on_load)
        if progress is None:
            model.load(checkpoint, bar.advance, lane=self._device.lane())
        else:
            progress.begin(checkpoint.num_bytes, bar.advance)
            model.load(checkpoint, progress.shard_done, progress.bytes_done, self._device.lane())

    def _reserve_adapters(self, model: Model) -> tuple[Adapters | None, int]:
        """Slots for adapters, if there are to be any, and their bytes."""
        config = self._config.lora
        if config is None:
            return None, 0
        num_slots, rank = config.max_cpu_loras, config.max_lora_rank
        try:
            num_bytes = model.reserve_adapters(num_slots, rank, getattr(torch, config.dtype))
        except MemoryError:
            raise InsufficientMemoryError(
                f"{num_slots} slots for LoRA adapters of rank {rank} do not fit the memory; lower --max-cpu-loras, "
                "--max-loras or --max-lora-rank"
            ) from None
        logger.info("Slots of LoRA adapters: %d, %.4f GiB in all", config.max_cpu_loras, num_bytes / GIB)
        return Adapters(model.lora_targets, config), num_bytes

    def _prepare(self, model: Model, facts: EngineFacts) -> None:
        spec, kv = self._config.model.spec, self._kv
        self._weights = model
        self._table = RequestTable(
            self._config.scheduler.max_num_seqs, facts.max_model_len, facts.block_size, spec.vocab_size
        )
        scheduler = self._config.scheduler
        most = Counts(
            max(scheduler.max_num_batched_tokens, facts.block_size),  # the warm-up is a block
            scheduler.max_num_seqs,
            -(-facts.max_model_len // facts.block_size),
        )
        arrays = BatchArrays(*most, max_logits_rows(self._config))
        self._model = self._device.forward_pass(self._config, model, kv, arrays, most)
        self._batches = BatchBuilder(self._table, facts.block_size, kv, arrays)
        self._last_tokens = LastTokens(scheduler.max_num_seqs, self._device.place)
        self._results = ResultBuilder(
            self._model, self._table, self._config.model.logprobs_mode, self._last_tokens,
            self._device.chooser(self._config),
        )  # fmt: skip

    def _warm_up(self, facts: EngineFacts) -> None:
        """Run one small prompt and drop it, so that no first request pays for first touches of code and weights."""
        plan = warm_up_plan(facts.block_size, facts.max_model_len)
        self.execute(plan)
        self._table.drop(plan.scheduled[0].request_id)


@dataclass(frozen=True, slots=True)
class IncompleteStep:
    """A launched step without those of its requests that could not be admitted."""

    plan: StepPlan
    launched: PendingStep | IncompleteStep | None
    failures: dict[str, SampledTokens]

    def result(self) -> StepResult:
        """What was computed, and the failures in their places."""
        result = StepResult([]) if self.launched is None else self.launched.result()
        by_id = self.failures | {sampled.request_id: sampled for sampled in result.sampled}
        return StepResult([by_id[s.request_id] for s in self.plan.scheduled], result.sample_s)


def _unknown(share: ScheduledRequest) -> SampledTokens:
    """The answer for who was refused in the step before, when this one was planned already."""
    return SampledTokens(share.request_id, [], error="this request was not admitted")


def _by_format(num_bytes_by_format: dict[str, int]) -> str:
    """Largest first: "q4_k 0.53 GiB, q6_k 0.31 GiB, f32 0.01 GiB"."""
    largest_first = sorted(num_bytes_by_format.items(), key=lambda item: -item[1])
    return ", ".join(f"{fmt} {num_bytes / GIB:.4f} GiB" for fmt, num_bytes in largest_first)
