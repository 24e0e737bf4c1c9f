"""The CPU as the device: native kernels on threads, the model's passes recorded on tapes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from kvik.config import EngineConfig
from kvik.config.device_kind import check_device_kind
from kvik.kernels import runtime
from kvik.kernels.batch_rows import BatchArrays
from kvik.kernels.pages import give_back_pages
from kvik.kernels.tape import Counts
from kvik.layers.batch import LayerKV
from kvik.layers.formats import float_format
from kvik.messages import EngineFacts
from kvik.models import Model
from kvik.plan.formats import Kind
from kvik.plan.step_memory import activation_bytes
from kvik.plan.weights import StoredWeights
from kvik.runner import kv_memory
from kvik.runner.attention_choice import attention_of, say_attention
from kvik.runner.compile_choice import with_compilation
from kvik.runner.compiled_model import BackgroundCompilation
from kvik.runner.device import ForwardPass
from kvik.runner.taped_model import tape_model
from kvik.runner.trial_batches import trial_batches
from kvik.sampling import PlainChooser
from kvik.step import MemoryPart
from kvik.telemetry.log import get_logger, log_once
from kvik.weights.lane import Lane

logger = get_logger(__name__)


class CpuDevice:
    kind: Kind = "cpu"
    place = torch.device("cpu")

    def __init__(self, num_threads: int) -> None:
        runtime.set_num_threads(num_threads)
        self._forward: ForwardPass | None = None

    def say_what_computes(self) -> None:
        isa = runtime.isa()
        if isa == "reference":
            log_once(
                logger,
                logging.WARNING,
                "no native kernels in this installation (no C++20 compiler when it was installed?): computing with "
                "plain torch, which is many times slower. Install a compiler and reinstall kvik to change that.",
            )
        logger.info("Using %s kernels on %d threads.", isa, runtime.num_threads())

    def compute_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float32

    def float_format(self, config: EngineConfig) -> str:
        is_exact = config.model.matmul_precision == "highest"
        return float_format(getattr(torch, config.model.dtype), is_exact=is_exact)

    def lane(self) -> Lane | None:
        return None

    def check_room(self, config: EngineConfig, weights_bytes: int, stored: StoredWeights) -> None:
        check_device_kind(config, "cpu")
        if stored.is_fp8 and config.model.quantization is None:
            logger.info(
                "This checkpoint's matrices are 8-bit floats, which a CPU does not compute with: they become %s as "
                "they are read, and take the memory of that. --quantization int8 makes 8-bit whole numbers of them.",
                self.float_format(config),
            )  # fmt: skip
        say_attention(config, "cpu")
        kv_memory.check_room(config, weights_bytes, stored)

    def while_loading(self, config: EngineConfig, model: Model) -> AbstractContextManager[None]:
        return nullcontext()

    def size_kv(self, config: EngineConfig, model: Model, adapters_bytes: int, stored: StoredWeights) -> EngineFacts:
        return kv_memory.plan_kv_memory(config, model.weights_bytes, adapters_bytes, stored)

    def allocate_kv(self, config: EngineConfig, num_blocks: int) -> list[LayerKV]:
        return kv_memory.allocate_kv(config, num_blocks, attention_of(config, "cpu"))

    def forward_pass(
        self, config: EngineConfig, model: Model, kv: list[LayerKV], arrays: BatchArrays, most: Counts
    ) -> ForwardPass:
        running: ForwardPass = model
        if model.group.size == 1:  # what others have to add cannot be on a tape
            arena_bytes = 2 * activation_bytes(config)
            running = tape_model(model, kv, arrays, most, arena_bytes, with_lora=config.lora is not None)
        trials = trial_batches(arrays, kv, config.cache.block_size, most)
        max_positions = config.model.max_model_len or config.model.spec.max_position_embeddings
        self._forward = with_compilation(config.compilation, model, running, max_positions, trials)
        return self._forward

    def chooser(self, config: EngineConfig) -> PlainChooser:
        return PlainChooser()

    def give_back(self, part: MemoryPart, tensors: Sequence[torch.Tensor]) -> int:
        """Addresses stay, as tapes need them."""
        return sum(give_back_pages(tensor) for tensor in tensors)

    def take_again(self, part: MemoryPart) -> None:
        """Nothing: pages come back when they are written."""

    def use_idle_time(self) -> bool:
        return isinstance(self._forward, BackgroundCompilation) and self._forward.use_idle_time()

    def count_progress_at(self, address: int) -> None:
        runtime.count_progress_at(address)
