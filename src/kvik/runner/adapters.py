"""Adapters in memory: which one is in which slot, and reading one from its folder. Who uses which slot is not known.

On a CPU an adapter that is in memory can be computed with, so there is one tier: `max_cpu_loras` slots.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from kvik.config.lora import RANKS, LoraConfig
from kvik.errors import ModelFileError
from kvik.layers.lora import LoraFactors, LoraTarget
from kvik.messages import LoraRequest
from kvik.modelfile.adapter import AdapterConfig
from kvik.telemetry.log import get_logger
from kvik.weights.adapter import AdapterFactors, read_adapter

logger = get_logger(__name__)


class Adapters:
    """The slots of one model. `targets` have been reserved for as many slots and ranks as `config` says."""

    def __init__(self, targets: Sequence[LoraTarget], config: LoraConfig) -> None:
        self._targets = targets
        self._config = config
        self._sizes = {
            name: (target.num_inputs, size)
            for target in targets
            for name, size in zip(target.names, target.sizes.values(), strict=True)
        }
        self._loaded: list[LoraRequest | None] = [None] * config.max_cpu_loras

    def check(self, lora: LoraRequest) -> None:
        """Raises `ModelFileError` for an adapter that cannot be computed beside this model."""
        self._read(lora)

    def ensure(self, lora: LoraRequest, slot: int) -> None:
        """Have the adapter in the slot, whatever was there before. Raises `ModelFileError`; the slot is empty then."""
        if self._loaded[slot] == lora:
            return
        started = time.perf_counter()
        self._loaded[slot] = None
        factors = self._read(lora)
        for target in self._targets:
            target.write(slot, factors)
        self._loaded[slot] = lora
        logger.info(
            "Loaded adapter %s (%s) into slot %d in %.3f seconds",
            lora.lora_name, lora.lora_path, slot, time.perf_counter() - started,
        )  # fmt: skip

    def _read(self, lora: LoraRequest) -> dict[str, LoraFactors]:
        """Its factors by module, rounded as they are kept."""
        config, factors = read_adapter(Path(lora.lora_path))
        self._check_targets(config, factors)
        for module, found in factors.items():
            self._check_module(config, module, found)
        dtype: torch.dtype = getattr(torch, self._config.dtype)
        kept = {module: LoraFactors(p.a.to(dtype), p.b.to(dtype), p.scale) for module, p in factors.items()}
        for module, pair in kept.items():
            if not (pair.a.isfinite().all() and pair.b.isfinite().all()):
                raise ModelFileError(
                    f"{lora.lora_path}: the factors of {module} have numbers that are not finite in "
                    f"{self._config.dtype}; the adapter is broken, or needs another --lora-dtype"
                )
        return kept

    def _check_targets(self, config: AdapterConfig, factors: Mapping[str, AdapterFactors]) -> None:
        """What the configuration names must be in the model and in the file."""
        for name in config.target_modules:
            if not any(_is_or_ends(module, name) for module in self._sizes):
                raise ModelFileError(f"{config.source}: target module {name[:100]!r} {self._what_is_possible()}")
            if not any(_is_or_ends(module, name) for module in factors):
                raise ModelFileError(
                    f"{config.source} names the target module {name[:100]!r}, but the weights file has nothing for it: "
                    "the adapter is not complete"
                )

    def _check_module(self, config: AdapterConfig, module: str, factors: AdapterFactors) -> None:
        sizes = self._sizes.get(module)
        if sizes is None:
            raise ModelFileError(f"{config.source}: module {module[:200]!r} {self._what_is_possible()}")
        (rank, num_inputs), num_outputs, most = factors.a.shape, factors.b.shape[0], self._config.max_lora_rank
        if rank > most:
            enough = next((r for r in RANKS if r >= rank), None)
            raise ModelFileError(
                f"{config.source}: {module} has rank {rank}, above --max-lora-rank {most}; "
                + (f"start with --max-lora-rank {enough}" if enough else f"ranks above {RANKS[-1]} are not supported")
            )
        if (num_inputs, num_outputs) != sizes:
            raise ModelFileError(
                f"{config.source}: {module} is for a layer of {num_inputs} inputs and {num_outputs} outputs; this "
                f"model's has {sizes[0]} and {sizes[1]}: the adapter is of another model"
            )

    def _what_is_possible(self) -> str:
        names = sorted({module.rpartition(".")[2] for module in self._sizes})
        return f"is not a linear layer of this model's decoder layers; adapters may change {', '.join(names)}"


def _is_or_ends(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")
