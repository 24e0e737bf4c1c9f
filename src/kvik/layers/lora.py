"""Room beside a linear layer for adapters of low rank (LoRA). Knows no file and no request: slots are numbers.

A layer declares its target as it is built; nothing is reserved unless the model is told to (`Model.reserve_adapters`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kvik.kernels.lora import LoraFactors, LoraSlots, lora
from kvik.parallel.share import Share

__all__ = ["LoraFactors", "LoraTarget"]


class LoraTarget:
    """The projections of one merged layer, each of which an adapter may change."""

    __slots__ = ("_device", "_inputs", "_outputs", "_slots", "prefix")

    def __init__(
        self, prefix: str, outputs: Mapping[str, Share], inputs: Share, device: torch.device | str = "cpu"
    ) -> None:
        """`outputs`: of each projection, by its name below `prefix`, in the order of the merged result, those that this
        worker has; `inputs` likewise."""
        self.prefix = prefix
        self._outputs = dict(outputs)
        self._inputs = inputs
        self._device = device
        self._slots: LoraSlots | None = None

    @property
    def names(self) -> list[str]:
        """Full names of the projections: "model.layers.0.self_attn.q_proj"."""
        return [f"{self.prefix}.{part}" for part in self._outputs]

    @property
    def num_inputs(self) -> int:
        """Of the whole layer, as an adapter's factors have them."""
        return self._inputs.whole

    @property
    def sizes(self) -> dict[str, int]:
        """Outputs of each whole projection by its name below `prefix`."""
        return {part: share.whole for part, share in self._outputs.items()}

    @property
    def num_bytes(self) -> int:
        return 0 if self._slots is None else self._slots.nbytes

    def reserve(self, num_slots: int, max_rank: int, dtype: torch.dtype) -> None:
        """Make room for `num_slots` adapters of rank `max_rank` at most, kept in `dtype`."""
        sizes = [share.size for share in self._outputs.values()]
        self._slots = LoraSlots(sizes, self._inputs.size, num_slots, max_rank, dtype, self._device)

    def write(self, slot: int, factors: Mapping[str, LoraFactors]) -> None:
        """Put an adapter into a slot: its factors by full name, of which those of this target are taken."""
        assert self._slots is not None, "reserve() comes first"
        for part, (name, outputs) in enumerate(zip(self.names, self._outputs.values(), strict=True)):
            pair = factors.get(name)
            self._slots.write(slot, part, None if pair is None else self._own(pair, outputs))

    def _own(self, pair: LoraFactors, outputs: Share) -> LoraFactors:
        """What this worker's inputs and outputs have to do with: the product of its parts is its part of theirs."""
        if outputs.is_whole and self._inputs.is_whole:
            return pair
        a = pair.a[:, self._inputs.first : self._inputs.end].contiguous()
        return LoraFactors(a, pair.b[outputs.first : outputs.end].contiguous(), pair.scale)

    def add(self, out: torch.Tensor, x: torch.Tensor, row_slots: torch.Tensor) -> None:
        """out [T, sum of N] += what the adapters of the rows x [T, K] make of them; slots below 0 have none."""
        assert self._slots is not None, "reserve() comes first"
        lora(out, x, row_slots, self._slots)
