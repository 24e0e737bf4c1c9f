"""Reads the safetensors format: 8 bytes of header length, a JSON header, then the tensors' bytes.

Knows no model and nothing of shards. Every size and offset is checked against the file before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from kvik.errors import ModelFileError
from kvik.modelfile.json_file import parse_json_object
from kvik.weights.checkpoint import FileSpan, RawTensor
from kvik.weights.mapped_file import MappedFile

_MAX_HEADER_BYTES: Final = 100_000_000
"""The format's own limit."""
_LENGTH_BYTES: Final = 8
_MAX_DIMS: Final = 16
_FORMATS: Final = {
    "F32": ("f32", 4), "F16": ("f16", 2), "BF16": ("bf16", 2),
    "I64": ("i64", 8), "I32": ("i32", 4), "I8": ("i8", 1), "U8": ("u8", 1), "F8_E4M3": ("f8_e4m3", 1),
    "BOOL": ("bool", 1),
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies; `offset` in bytes from the start of the file."""

    name: str
    shape: tuple[int, ...]
    fmt: str
    value_bytes: int
    offset: int
    num_bytes: int


class SafetensorsFile:
    """One .safetensors file, its header read and checked. `infos` is in the order of the file, by tensor name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = MappedFile(path)
        self.infos: dict[str, TensorInfo] = self._read_header()

    def tensors(self, names: dict[str, str], *, read_ahead: bool = True) -> Iterator[RawTensor]:
        """The tensors that are keys of `names`, each under the name it maps to."""
        for info in self.infos.values():
            if info.name in names:
                if read_ahead:
                    self._file.read_ahead(info.offset + info.num_bytes)
                yield self.tensor(info.name, names[info.name])
                self._file.drop(info.offset, info.num_bytes)

    def tensor(self, name: str, called: str) -> RawTensor:
        """One tensor, out of order, under the name `called`."""
        info = self.infos[name]
        data = self._file.view(info.offset, info.num_bytes)
        if info.offset % info.value_bytes:
            data = data.clone()  # to be seen as values it must be aligned
        return RawTensor(called, info.shape, info.fmt, data, FileSpan(self.path, info.offset))

    def release(self) -> None:
        self._file.drop_all()

    def _read_header(self) -> dict[str, TensorInfo]:
        header_bytes = int.from_bytes(self._file.read(0, _LENGTH_BYTES), "little")
        if self._file.size < _LENGTH_BYTES or not 2 <= header_bytes <= min(
            _MAX_HEADER_BYTES, self._file.size - _LENGTH_BYTES
        ):
            raise self._error(
                f"claims a header of {header_bytes} bytes in a file of {self._file.size}: not safetensors"
            )
        header = parse_json_object(self._file.read(_LENGTH_BYTES, header_bytes), f"the header of {self.path}")
        header.pop("__metadata__", None)
        data_start = _LENGTH_BYTES + header_bytes
        infos = [self._info(name, entry, data_start) for name, entry in header.items()]
        infos.sort(key=lambda info: (info.offset, info.num_bytes))
        self._check_overlap(infos)
        return {info.name: info for info in infos}

    def _info(self, name: str, entry: Any, data_start: int) -> TensorInfo:
        what = f"tensor {name!r}"
        if not isinstance(entry, dict):
            raise self._error(f"{what} is described by {type(entry).__name__}, not by an object")
        dtype = entry.get("dtype")
        if not isinstance(dtype, str) or dtype not in _FORMATS:
            raise self._error(f"{what} has dtype {dtype!r}; readable are {', '.join(_FORMATS)}")
        fmt, value_bytes = _FORMATS[dtype]
        shape = self._sizes(entry.get("shape"), f"shape of {what}", _MAX_DIMS)
        offsets = self._sizes(entry.get("data_offsets"), f"data_offsets of {what}", 2)
        if len(offsets) != 2 or not offsets[0] <= offsets[1] <= self._file.size - data_start:
            raise self._error(
                f"{what} lies at {list(offsets)}, outside the {self._file.size - data_start} bytes of data: "
                "the file is cut short or broken"
            )
        num_bytes = value_bytes
        for size in shape:
            num_bytes *= size
        if num_bytes != offsets[1] - offsets[0]:
            raise self._error(f"{what} of {dtype} {list(shape)} takes {num_bytes} bytes, not {offsets[1] - offsets[0]}")
        return TensorInfo(name, shape, fmt, value_bytes, data_start + offsets[0], num_bytes)

    def _sizes(self, value: Any, what: str, most: int) -> tuple[int, ...]:
        """A short list of integers of 0 to 2^63 - 1."""
        sound = isinstance(value, list) and len(value) <= most
        if not sound or not all(type(size) is int and 0 <= size < 2**63 for size in value):
            raise self._error(f"{what} must be a list of at most {most} sizes")
        return tuple(value)

    def _check_overlap(self, infos: list[TensorInfo]) -> None:
        for previous, info in pairwise(infos):
            if info.offset < previous.offset + previous.num_bytes:
                raise self._error(f"tensors {previous.name!r} and {info.name!r} overlap")

    def _error(self, problem: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: {problem}")
