"""Folders whose linear layers are stored as 8-bit floats, by whatever method: each weight comes with its codes where
they lie in the file, and with the scales of its rows. Nothing is dequantised. Knows no model.

A scale of a whole tensor, or of a square of 128 x 128, is repeated for each row that it is of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import torch

from kvik.errors import ModelFileError
from kvik.modelfile.fp8 import BLOCK_SIZE
from kvik.modelfile.quantization import Quantization
from kvik.weights.checkpoint import RawTensor, Shard
from kvik.weights.folder import FolderCheckpoint

_CODES: Final = "f8_e4m3"
_SCALES: Final = ("weight_scale", "weight_scale_inv")
"""Either is what codes are to be multiplied by."""
_INPUT_SCALES: Final = ("input_scale", "activation_scale")
_PARTS: Final = frozenset((*_SCALES, *_INPUT_SCALES, "weight_zero_point", "weight_shape", "input_scale_ub"))
_DTYPES: Final = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Fp8Checkpoint:
    """See checkpoint.Checkpoint. Tensors that are not part of a layer of 8-bit floats come as they are."""

    def __init__(self, folder: FolderCheckpoint, quantization: Quantization) -> None:
        self._folder = folder
        self._fmt = quantization.fmt

    @property
    def num_bytes(self) -> int:
        return self._folder.num_bytes

    @property
    def num_shards(self) -> int:
        return self._folder.num_shards

    def shards(self) -> Iterator[Shard]:
        return (_Fp8Shard(shard, self) for shard in self._folder.shards())

    def format_of(self, name: str) -> str | None:
        stored = self._folder.format_of(name)
        return self._fmt if stored == _CODES else stored

    def joined(self, raw: RawTensor) -> RawTensor | None:
        """A weight of codes with its scales; None for the scales themselves; all else as it is."""
        module, _, part = raw.name.rpartition(".")
        if raw.fmt == _CODES:
            return replace(raw, fmt=self._fmt, scales=self._scales(module, raw.shape))
        is_part = part in _PARTS and self._folder.format_of(f"{module}.weight") == _CODES
        return None if is_part else raw

    def _scales(self, module: str, shape: tuple[int, ...]) -> torch.Tensor:
        """fp32 [N, scales of a row], that of the inputs last where they have a fixed one."""
        if len(shape) != 2:
            raise _error(module, f"its weight is {list(shape)}, not a matrix")
        found = self._found(module, _SCALES)
        if found is None:
            raise _error(module, f"it lacks {' or '.join(_SCALES)}, without which its codes mean nothing")
        of_weight = self._values(module, found)
        spread = _of_blocks if self._fmt == "fp8_block" else _of_rows
        columns = [spread(module, found, of_weight, *shape)]
        if self._fmt == "fp8_static":
            columns.append(self._of_inputs(module).expand(shape[0], 1))
        return torch.cat(columns, dim=1)

    def _of_inputs(self, module: str) -> torch.Tensor:
        found = self._found(module, _INPUT_SCALES)
        if found is None:
            raise _error(module, "it lacks input_scale, though quantization_config says that inputs have fixed scales")
        scale = self._values(module, found)
        if scale.numel() != 1 or not scale.item() > 0:
            raise _error(module, f"its {found} is {list(scale.shape)}; it must be one number above 0")
        return scale.reshape(1, 1)

    def _found(self, module: str, parts: Iterable[str]) -> str | None:
        """The first of the names under which the module has a tensor."""
        return next((part for part in parts if self._folder.format_of(f"{module}.{part}") is not None), None)

    def _values(self, module: str, part: str) -> torch.Tensor:
        raw = self._folder.tensor(f"{module}.{part}")
        assert raw is not None
        if raw.fmt not in _DTYPES:
            raise _error(module, f"its {part} is stored as {raw.fmt}; it must be one of {', '.join(_DTYPES)}")
        values = raw.data.view(_DTYPES[raw.fmt]).view(raw.shape).float()
        if not bool((values.isfinite() & (values >= 0)).all()):
            raise _error(module, f"its {part} has numbers below 0 or without an end, which no scale is")
        return values


class _Fp8Shard:
    def __init__(self, shard: Shard, checkpoint: Fp8Checkpoint) -> None:
        self._shard = shard
        self._checkpoint = checkpoint
        self.name = shard.name

    def tensors(self, *, read_ahead: bool = True) -> Iterator[RawTensor]:
        for raw in self._shard.tensors(read_ahead=read_ahead):
            joined = self._checkpoint.joined(raw)
            if joined is not None:
                yield joined

    def release(self) -> None:
        self._shard.release()


def _of_rows(module: str, part: str, scales: torch.Tensor, n: int, k: int) -> torch.Tensor:
    """One for all, or one for each row -> [N, 1]."""
    if scales.numel() == 1:
        return scales.reshape(1, 1).expand(n, 1)
    if scales.numel() != n or scales.dim() not in (1, 2) or scales.shape[0] != n:
        raise _error(module, f"its {part} is {list(scales.shape)}; for {n} x {k} it must be [1], [{n}] or [{n}, 1]")
    return scales.reshape(n, 1)


def _of_blocks(module: str, part: str, scales: torch.Tensor, n: int, k: int) -> torch.Tensor:
    """One for each square, or for each BLOCK_SIZE of a row -> [N, groups of a row]."""
    bands, groups = -(-n // BLOCK_SIZE), -(-k // BLOCK_SIZE)
    if tuple(scales.shape) == (bands, groups):
        return scales.repeat_interleave(BLOCK_SIZE, 0)[:n]
    if tuple(scales.shape) != (n, groups):
        raise _error(
            module,
            f"its {part} is {list(scales.shape)}; for {n} x {k} in squares of {BLOCK_SIZE} it must be "
            f"[{bands}, {groups}]",
        )
    return scales


def _error(module: str, problem: str) -> ModelFileError:
    return ModelFileError(f"layer {module}, in 8-bit floats: {problem}")
