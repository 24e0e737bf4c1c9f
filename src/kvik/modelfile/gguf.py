"""The header of a GGUF file (versions 2 and 3): metadata and where each tensor lies. Knows no architecture.

Every length, count and offset is checked against the file before it is used, so a broken file is a ModelFileError
and takes no memory. Arrays are only skipped (that walk is what a start waits for) and decoded when asked for.
Format: the "GGUF" document of the ggml project.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from kvik.errors import ModelFileError
from kvik.modelfile.gguf_types import ARRAY, FLOAT32, SCALARS, STRING, TENSOR_TYPES, TensorType

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_MAX_METADATA: Final = 65_536
_MAX_TENSORS: Final = 1_000_000
_MAX_NAME_BYTES: Final = 65_535
_MAX_TEXT_BYTES: Final = 16 * 2**20
_MAX_ALIGNMENT: Final = 2**20
_MAX_DIMS: Final = 4
_MAX_ARRAY_DEPTH: Final = 4
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_MIN_METADATA_BYTES: Final = 8 + 4 + 1
"""Of one key and value."""
_MIN_TENSOR_BYTES: Final = 8 + 4 + 8 + 4 + 8
"""Of one tensor's description."""


@dataclass(frozen=True)
class GgufArray:
    """An array in the metadata, not decoded yet. Its extent was checked against the file."""

    key: str
    element_type: int
    count: int
    _cursor: _Cursor

    @cached_property
    def values(self) -> list[Any]:
        """The elements, decoded now. Raises ModelFileError for text that is not UTF-8 and for arrays of arrays."""
        if self.element_type == STRING:
            return self._cursor.at_same_place().strings(self.count, self.key)
        if self.element_type == ARRAY:
            raise self._cursor.error(f"{self.key!r} is an array of arrays; nothing here reads such")
        return self._cursor.at_same_place().numbers(self.element_type, self.count)


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies. `shape` has the contiguous dimension last, as in torch."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    """In bytes from the start of the file."""
    num_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    path: Path
    version: int
    metadata: Mapping[str, Any]
    """Python scalars and strings, and a GgufArray for each array."""
    tensors: Mapping[str, GgufTensor]

    @property
    def is_quantized(self) -> bool:
        """Whether any tensor is stored in blocks."""
        return any(tensor.type.block_size > 1 for tensor in self.tensors.values())

    def scalars(self) -> dict[str, Any]:
        """The metadata but its arrays."""
        return {key: value for key, value in self.metadata.items() if not isinstance(value, GgufArray)}


def is_gguf(path: Path) -> bool:
    """Whether the file begins as GGUF files do."""
    try:
        with path.open("rb") as file:
            return file.read(4) == _MAGIC
    except OSError:
        return False


def read_gguf_header(path: Path) -> GgufHeader:
    """Raises ModelFileError, naming key or tensor, for a file that is not sound. The file stays mapped."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            data: mmap.mmap | bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error
    cursor = _Cursor(data, len(data), path)
    version = _read_version(cursor)
    num_tensors, num_metadata = cursor.u64("the number of tensors"), cursor.u64("the number of metadata keys")
    cursor.check_count("metadata keys", num_metadata, _MAX_METADATA, _MIN_METADATA_BYTES)
    cursor.check_count("tensors", num_tensors, _MAX_TENSORS, _MIN_TENSOR_BYTES)
    metadata = _read_metadata(cursor, num_metadata)
    return GgufHeader(path, version, metadata, _read_tensors(cursor, num_tensors, metadata))


def _read_version(cursor: _Cursor) -> int:
    magic = cursor.data[:4]
    if magic != _MAGIC:
        raise cursor.error(f"not a GGUF file: it begins with {magic!r}, not {_MAGIC!r}")
    cursor.position = 4
    version = cursor.u32("the version")
    if version not in _VERSIONS:
        kind = " (a big-endian file)" if version and not version & 0xFFFF else ""
        raise cursor.error(f"GGUF version {version}{kind} cannot be read, only little-endian versions 2 and 3")
    return version


def _read_metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for index in range(count):
        key = cursor.text(f"metadata key {index}", _MAX_NAME_BYTES)
        if key in metadata:
            raise cursor.error(f"metadata key {key!r} occurs twice")
        metadata[key] = _read_value(cursor, key)
    return metadata


def _read_value(cursor: _Cursor, key: str) -> Any:
    value_type = cursor.u32(repr(key))
    if value_type == STRING:
        return cursor.text(repr(key), _MAX_TEXT_BYTES)
    if value_type == ARRAY:
        element_type, count = cursor.u32(repr(key)), cursor.u64(repr(key))
        array = GgufArray(key, element_type, count, cursor.at_same_place())
        cursor.skip_array(element_type, count, key)
        return array
    if value_type not in SCALARS:
        raise cursor.error(f"{key!r} has the unknown value type {value_type}")
    value = cursor.unpack(SCALARS[value_type], repr(key))
    return _shortest_float32(value) if value_type == FLOAT32 else value


def _shortest_float32(value: float) -> float:
    """The decimal of fewest digits that is this float32, so that 1e-5 reads as 1e-05, as it does in config.json."""
    single = struct.Struct("<f")
    for digits in (6, 7, 8):
        decimal = float(f"{value:.{digits}g}")
        try:
            if single.unpack(single.pack(decimal))[0] == value:
                return decimal
        except OverflowError:  # rounded up beyond the largest float32
            continue
    return value


def _read_tensors(cursor: _Cursor, count: int, metadata: Mapping[str, Any]) -> dict[str, GgufTensor]:
    placed: dict[str, tuple[tuple[int, ...], TensorType, int, int]] = {}
    for index in range(count):
        name = cursor.text(f"the name of tensor {index}", _MAX_NAME_BYTES)
        if name in placed:
            raise cursor.error(f"tensor {name!r} occurs twice")
        placed[name] = _read_tensor(cursor, name)
    start = _data_start(cursor, metadata)
    tensors = {
        name: GgufTensor(name, shape, kind, start + offset, size)
        for name, (shape, kind, offset, size) in placed.items()
    }
    _check_extents(cursor, tensors)
    return tensors


def _read_tensor(cursor: _Cursor, name: str) -> tuple[tuple[int, ...], TensorType, int, int]:
    """Shape, type, offset from the start of the data, and size in bytes."""
    what = f"tensor {name!r}"
    num_dims = cursor.u32(what)
    if not 1 <= num_dims <= _MAX_DIMS:
        raise cursor.error(f"{what} has {num_dims} dimensions; known are 1 to {_MAX_DIMS}")
    shape = tuple(cursor.u64(what) for _ in range(num_dims))[::-1]
    type_code, offset = cursor.u32(what), cursor.u64(what)
    kind = TENSOR_TYPES.get(type_code)
    if kind is None:
        raise cursor.error(f"{what} has the unknown type {type_code}")
    num_elements = 1
    for size in shape:
        num_elements *= size
    if not num_elements or shape[-1] % kind.block_size:
        raise cursor.error(
            f"{what} of shape {list(shape)} cannot be stored as {kind.name}, {kind.block_size} values a block"
        )
    return shape, kind, offset, num_elements // kind.block_size * kind.block_bytes


def _data_start(cursor: _Cursor, metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    sound = isinstance(alignment, int) and 8 <= alignment <= _MAX_ALIGNMENT and not alignment & (alignment - 1)
    if not sound:
        raise cursor.error(f"'general.alignment' is {alignment!r}; it must be a power of two, 8 to {_MAX_ALIGNMENT}")
    return -(-cursor.position // int(alignment)) * int(alignment)


def _check_extents(cursor: _Cursor, tensors: Mapping[str, GgufTensor]) -> None:
    previous_end, previous = 0, ""
    for tensor in sorted(tensors.values(), key=lambda tensor: tensor.offset):
        end = tensor.offset + tensor.num_bytes
        if end > cursor.size:
            raise cursor.error(
                f"tensor {tensor.name!r} ends at byte {end} of a file of {cursor.size}: the file is cut short or broken"
            )
        if tensor.offset % 8:
            raise cursor.error(f"tensor {tensor.name!r} begins at byte {tensor.offset}, which is not aligned")
        if tensor.offset < previous_end:
            raise cursor.error(f"tensors {previous!r} and {tensor.name!r} overlap")
        previous_end, previous = end, tensor.name


class _Cursor:
    """A place in the file and checked reads from there on."""

    def __init__(self, data: mmap.mmap | bytes, size: int, path: Path, position: int = 0) -> None:
        self.data = data
        self.size = size
        self.path = path
        self.position = position

    def at_same_place(self) -> _Cursor:
        return _Cursor(self.data, self.size, self.path, self.position)

    def error(self, problem: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: {problem}")

    def cut_short(self, what: str) -> ModelFileError:
        return self.error(f"the file ends inside {what}: it is cut short, or a length in it is wrong")

    def check_count(self, what: str, count: int, largest: int, least_bytes: int) -> None:
        if count > largest or count * least_bytes > self.size:
            raise self.error(f"claims {count} {what}, which a file of {self.size} bytes cannot hold or nobody needs")

    def unpack(self, packed: struct.Struct, what: str) -> Any:
        if packed.size > self.size - self.position:
            raise self.cut_short(what)
        (value,) = packed.unpack_from(self.data, self.position)
        self.position += packed.size
        return value

    def u32(self, what: str) -> int:
        value: int = self.unpack(_U32, what)
        return value

    def u64(self, what: str) -> int:
        value: int = self.unpack(_U64, what)
        return value

    def text(self, what: str, largest: int) -> str:
        length = self.u64(what)
        if length > self.size - self.position:
            raise self.cut_short(what)
        if length > largest:
            raise self.error(f"{what} is {length} bytes long; the largest that is read is {largest}")
        start, self.position = self.position, self.position + length
        return self._decoded(self.data[start : self.position], what)

    def skip_array(self, element_type: int, count: int, key: str, depth: int = 1) -> None:
        """Move behind the elements; afterwards their extent is known to lie in the file."""
        least = SCALARS[element_type].size if element_type in SCALARS else 8
        if count * least > self.size - self.position:
            raise self.cut_short(f"array {key!r} of {count} elements")
        if element_type in SCALARS:
            self.position += count * least
        elif element_type == STRING:
            self._skip_strings(count, key)
        elif element_type == ARRAY and depth < _MAX_ARRAY_DEPTH:
            for _ in range(count):
                self.skip_array(self.u32(repr(key)), self.u64(repr(key)), key, depth + 1)
        else:
            raise self.error(f"array {key!r} has elements of the unknown type {element_type}, or is nested too deeply")

    def _skip_strings(self, count: int, key: str) -> None:
        # The hot loop of a start: ten thousands of tokens. The end of the file shows as an exception of unpack_from.
        read_length, data, position = _U64.unpack_from, self.data, self.position
        try:
            for _ in range(count):
                position += 8 + read_length(data, position)[0]
        except (struct.error, OverflowError):
            raise self.cut_short(f"array {key!r}") from None
        if position > self.size:
            raise self.cut_short(f"array {key!r}")
        self.position = position

    def strings(self, count: int, key: str) -> list[str]:
        read_length, data, position = _U64.unpack_from, self.data, self.position
        texts = []
        try:
            for _ in range(count):
                start = position + 8
                position = start + read_length(data, position)[0]
                texts.append(data[start:position].decode())
        except UnicodeDecodeError as error:
            raise self.error(f"element {len(texts)} of {key!r} is not UTF-8: {error}") from error
        return texts

    def numbers(self, element_type: int, count: int) -> list[Any]:
        letter = SCALARS[element_type].format[1:]
        return list(struct.unpack_from(f"<{count}{letter}", self.data, self.position))

    def _decoded(self, raw: bytes, what: str) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not UTF-8: {error}") from error
