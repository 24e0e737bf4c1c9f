"""Folders whose linear layers are stored as integers (GPTQ, AWQ, compressed-tensors): each becomes one raw tensor of
GGUF blocks, under the name that its weight would have. Nothing is dequantised. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch

from kvik.errors import ModelFileError
from kvik.modelfile.quantization import Quantization
from kvik.weights.blocks import BLOCK, blocks_of, offsets_of, unpack_bytes, unpack_nibbles
from kvik.weights.checkpoint import RawTensor, Shard
from kvik.weights.folder import FolderCheckpoint

_CODES: Final = {"gptq": "qweight", "awq": "qweight", "compressed-tensors": "weight_packed"}
_PARTS: Final = frozenset(
    ("qweight", "qzeros", "scales", "g_idx", "weight_packed", "weight_scale", "weight_zero_point", "weight_shape",
     "weight_g_idx")
)  # fmt: skip
_DTYPES: Final = {
    "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "i32": torch.int32, "i64": torch.int64,
    "i8": torch.int8,
}  # fmt: skip
_AWQ_ORDER: Final = (0, 2, 4, 6, 1, 3, 5, 7)
"""Where the eight codes of an AWQ word stand in `even codes, then odd codes`: column c is the _AWQ_ORDER[c]-th."""


class QuantizedCheckpoint:
    """See checkpoint.Checkpoint. Tensors that are not part of a quantised layer come as they are."""

    def __init__(self, folder: FolderCheckpoint, quantization: Quantization) -> None:
        self._folder = folder
        self._quantization = quantization

    @property
    def num_bytes(self) -> int:
        return self._folder.num_bytes

    @property
    def num_shards(self) -> int:
        return self._folder.num_shards

    def shards(self) -> Iterator[Shard]:
        return (_QuantizedShard(shard, self) for shard in self._folder.shards())

    def format_of(self, name: str) -> str | None:
        module, _, kind = name.rpartition(".")
        if kind == "weight" and self._is_quantized(module):
            return self._quantization.fmt
        return self._folder.format_of(name)

    def joined(self, raw: RawTensor) -> RawTensor | None:
        """The layer whose codes are `raw`; None for its other parts; `raw` itself where it belongs to no such layer."""
        module, _, part = raw.name.rpartition(".")
        if not self._is_quantized(module):
            return raw
        if part == self._codes_name:
            return _Layer(module, raw, self._folder, self._quantization).raw_tensor()
        return None if part in _PARTS else raw

    @property
    def _codes_name(self) -> str:
        return _CODES[self._quantization.method] if self._quantization.packed else "weight"

    def _is_quantized(self, module: str) -> bool:
        fmt = self._folder.format_of(f"{module}.{self._codes_name}")
        return fmt == ("i32" if self._quantization.packed else "i8")


class _QuantizedShard:
    def __init__(self, shard: Shard, checkpoint: QuantizedCheckpoint) -> None:
        self._shard = shard
        self._checkpoint = checkpoint
        self.name = shard.name

    def tensors(self, *, read_ahead: bool = True) -> Iterator[RawTensor]:
        """Reads ahead in any case: codes and scales are joined here, on the host."""
        for raw in self._shard.tensors():
            joined = self._checkpoint.joined(raw)
            if joined is not None:
                yield joined

    def release(self) -> None:
        self._shard.release()


class _Layer:
    """One quantised matrix: codes, scales, zero points, each checked against the codes' shape [N, K]."""

    def __init__(self, module: str, codes: RawTensor, folder: FolderCheckpoint, quantization: Quantization) -> None:
        self._module = module
        self._folder = folder
        self._is = quantization
        words = _values(codes)
        if words.dim() != 2:
            raise self._error(f"its codes are {list(words.shape)}, not a matrix")
        self._codes = self._unpack(words)  # [N, K]
        self._n, self._k = self._codes.shape
        self._group = quantization.group_size or self._k
        if self._k % BLOCK or self._k % self._group:
            raise self._error(f"its {self._k} inputs are no whole groups of {self._group} and blocks of {BLOCK}")

    def raw_tensor(self) -> RawTensor:
        self._check_order("g_idx" if self._is.method == "gptq" else "weight_g_idx")
        scales = self._scales()
        data = blocks_of(self._is.fmt, self._codes, scales, self._offsets(scales))
        return RawTensor(f"{self._module}.weight", (self._n, self._k), self._is.fmt, data.view(-1))

    def _unpack(self, words: torch.Tensor) -> torch.Tensor:
        """Codes as the block format has them: [N, K] uint8, or int8 around zero for 8 bits."""
        if not self._is.packed:
            return words
        if self._is.method == "awq":
            return _unpack_awq(words).t().contiguous()
        rows = words.t() if self._is.method == "gptq" else words
        codes = unpack_nibbles(rows) if self._is.bits == 4 else (unpack_bytes(rows) ^ 128).view(torch.int8)
        if self._is.method == "compressed-tensors":
            codes = self._without_padding(codes)
        return codes

    def _without_padding(self, codes: torch.Tensor) -> torch.Tensor:
        """Words at a row's end may hold more codes than the matrix has columns; its shape is stored beside them."""
        shape = self._part("weight_shape").tolist()
        if len(shape) != 2 or shape[0] != codes.shape[0] or not 0 < shape[1] <= codes.shape[1]:
            raise self._error(f"its weight_shape is {shape}, its codes are {list(codes.shape)}")
        return codes[:, : shape[1]].contiguous()

    def _scales(self) -> torch.Tensor:
        """[N, G]."""
        scales = self._part("weight_scale" if self._is.method == "compressed-tensors" else "scales")
        if self._is.method != "compressed-tensors":
            scales = scales.t() if scales.dim() == 2 else scales
        elif scales.numel() == 1:
            scales = scales.reshape(1, 1).expand(self._n, 1)  # one for the whole matrix
        elif scales.dim() == 1:
            scales = scales[:, None]
        self._check(scales, "scales", self._n)
        return scales

    def _offsets(self, scales: torch.Tensor) -> torch.Tensor | None:
        """[N, G]; None where codes are centred."""
        exact = self._folder.offsets(f"{self._module}.weight_offset")
        if exact is not None and not self._is.symmetric:
            offsets = _values(exact)
            self._check(offsets, "offsets", self._n)
            return offsets
        zero_points = self._zero_points()
        return None if zero_points is None else offsets_of(scales, zero_points)

    def _zero_points(self) -> torch.Tensor | None:
        """[N, G], as codes count; None where codes are centred."""
        if self._is.method == "compressed-tensors":
            return None if self._is.symmetric else self._compressed_zero_points()
        words = self._part("qzeros")
        if words.dim() != 2:
            raise self._error(f"its qzeros are {list(words.shape)}, not a matrix")
        if self._is.method == "awq":
            zero_points = _unpack_awq(words).t()
        elif self._is.bits == 4:
            zero_points = unpack_nibbles(words).t()
        else:
            zero_points = unpack_bytes(words).t()
        self._check(zero_points, "zero points", self._n)
        return self._centre_checked(zero_points + self._is.zero_point_offset)

    def _centre_checked(self, zero_points: torch.Tensor) -> torch.Tensor | None:
        centre = 1 << self._is.bits - 1
        if not self._is.symmetric:
            return zero_points
        if not bool((zero_points == centre).all()):
            raise self._error(f"it is called symmetric, but has zero points other than {centre}")
        return None

    def _compressed_zero_points(self) -> torch.Tensor:
        words = self._part("weight_zero_point")
        if words.dim() != 2:
            raise self._error(f"its weight_zero_point is {list(words.shape)}, not a matrix")
        zero_points = unpack_nibbles(words.t()).t()[: self._n]  # packed along N
        self._check(zero_points, "zero points", self._n)
        return zero_points

    def _check(self, values: torch.Tensor, what: str, rows: int) -> None:
        if values.dim() != 2 or tuple(values.shape) != (rows, self._k // self._group):
            raise self._error(
                f"its {what} are {list(values.shape)}; for {self._n} x {self._k} in groups of {self._group} they must "
                f"be [{rows}, {self._k // self._group}]"
            )

    def _check_order(self, part: str) -> None:
        """Groups must be consecutive inputs. Some files store the trivial order."""
        if self._folder.format_of(f"{self._module}.{part}") is None:
            return
        groups = self._part(part)
        if groups.shape != (self._k,) or not torch.equal(groups.long(), torch.arange(self._k) // self._group):
            raise self._error(
                f"its {part} permutes the inputs (desc_act / act-order), which is not supported: take a checkpoint "
                "quantised with desc_act=False, or a GGUF of the model"
            )

    def _part(self, part: str) -> torch.Tensor:
        raw = self._folder.tensor(f"{self._module}.{part}")
        if raw is None:
            raise self._error(f"it lacks {part}")
        return _values(raw)

    def _error(self, problem: str) -> ModelFileError:
        return ModelFileError(f"layer {self._module}, quantised with {self._is.method}: {problem}")


def _unpack_awq(words: torch.Tensor) -> torch.Tensor:
    """int32 [R, W] -> uint8 [R, 8 W]: words hold columns 0, 2, 4, 6, 1, 3, 5, 7, the first in the lowest bits."""
    packed = words.contiguous().view(torch.uint8).view(*words.shape, 4)
    codes = torch.cat([packed & 15, packed >> 4], dim=2)  # even places of the word, then odd ones
    return codes[:, :, _AWQ_ORDER].flatten(1)


def _values(raw: RawTensor) -> torch.Tensor:
    dtype = _DTYPES.get(raw.fmt)
    if dtype is None:
        raise ModelFileError(f"tensor {raw.name} is stored as {raw.fmt}, which no quantised layer has")
    return raw.data.view(dtype).view(raw.shape)
