from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvik.errors import ModelFileError
from kvik.modelfile.gguf import GgufArray, read_gguf_header
from kvik.modelfile.gguf_types import TENSOR_TYPES
from kvik.modelfile.model_file import open_model
from support.gguf_files import decoder_metadata, decoder_tensors, write_gguf

VALUES: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "tiny é 😀",
    "a.flag": True,
    "a.count": 77,
    "a.eps": 1e-5,
    "a.tokens": ["<s>", "", "é", "x" * 300],
    "a.scores": [0.5, -1.25],
    "a.types": [1, 2, 3],
}


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def header(*, version: int = 3, tensors: list[bytes] | None = None, metadata: list[bytes] | None = None) -> bytes:
    """A header by hand, so that it can be wrong."""
    parts = [*(metadata or []), *(tensors or [])]
    return b"GGUF" + struct.pack("<IQQ", version, len(tensors or []), len(metadata or [])) + b"".join(parts)


def tensor(name: str = "t", dims: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def pair(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def read(tmp_path: Path, data: bytes) -> Any:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    return read_gguf_header(path)


def test_reads_what_the_reference_writer_wrote(tmp_path: Path) -> None:
    weights = {"a": np.arange(64, dtype=np.float32).reshape(2, 32), "b": np.ones(5, np.float32)}
    path = write_gguf(tmp_path / "x.gguf", VALUES, weights, {"a": "q8_0"})
    ours, reference = read_gguf_header(path), GGUFReader(path)
    decoded = {key: v.values if isinstance(v, GgufArray) else v for key, v in ours.metadata.items()}
    assert decoded == VALUES
    assert ours.version == 3
    assert ours.scalars() == {k: v for k, v in VALUES.items() if not isinstance(v, list)}
    for there in reference.tensors:
        here = ours.tensors[there.name]
        assert here.shape == tuple(int(n) for n in reversed(there.shape))
        assert here.type.name.upper() == there.tensor_type.name
        assert (here.offset, here.num_bytes) == (there.data_offset, there.n_bytes)


def test_the_table_of_tensor_types_is_the_reference_s() -> None:
    for code, kind in TENSOR_TYPES.items():
        truth = GGMLQuantizationType(code)
        assert kind.name.upper() == truth.name
        assert (kind.block_size, kind.block_bytes) == GGML_QUANT_SIZES[truth]


def test_version_2_is_read_alike(tmp_path: Path) -> None:
    assert read(tmp_path, header(version=2, metadata=[pair("k", 4, struct.pack("<I", 5))])).metadata == {"k": 5}


@pytest.mark.parametrize("value", [1e-5, 1e-6, 0.1, 500000.0, 1.0000001, 3.4028234663852886e38, 0.0])
def test_float32_reads_as_its_shortest_decimal(tmp_path: Path, value: float) -> None:
    single = struct.pack("<f", value)
    found = read(tmp_path, header(metadata=[pair("k", 6, single)])).metadata["k"]
    assert struct.pack("<f", found) == single
    assert len(repr(found)) <= len(repr(struct.unpack("<f", single)[0]))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "begins with b''"),
        (b"PK\x03\x04", "not a GGUF file"),
        (header(version=1), "version 1 cannot be read"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF\x03\x00", "ends inside the version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "claims 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "claims 1152921504606846976 metadata keys"),
        (header(metadata=[pair("k", 4, b"\x01\x00\x00\x00")] * 2), "'k' occurs twice"),
        (header(metadata=[pair("k", 77, b"\x00" * 8)]), "'k' has the unknown value type 77"),
        (header(metadata=[pair("k", 8, struct.pack("<Q", 2**63))]), "ends inside 'k'"),
        (header(metadata=[pair("k", 8, struct.pack("<Q", 2) + b"\xff\xfe")]), "'k' is not UTF-8"),
        (header(metadata=[pair("k", 9, struct.pack("<IQ", 4, 2**62))]), "array 'k' of 4611686018427387904 elements"),
        (header(metadata=[pair("k", 9, struct.pack("<IQ", 8, 2) + string("a"))]), "ends inside array 'k'"),
        (header(metadata=[pair("k", 9, struct.pack("<IQQ", 8, 1, 2**64 - 1))]), "ends inside array 'k'"),
        (header(metadata=[pair("k", 9, struct.pack("<IQ", 99, 0))]), "unknown type 99"),
        (header(metadata=[pair("k", 9, struct.pack("<IQ", 9, 1) * 9)]), "nested too deeply"),
        (header(metadata=[pair("general.alignment", 4, struct.pack("<I", 24))]), "power of two"),
        (header(tensors=[tensor(), tensor()]), "tensor 't' occurs twice"),
        (header(tensors=[tensor(kind=4)]), "'t' has the unknown type 4"),
        (header(tensors=[tensor(dims=(1,) * 5)]), "'t' has 5 dimensions"),
        (header(tensors=[tensor(dims=(0,))]), "'t' of shape \\[0\\]"),
        (header(tensors=[tensor(dims=(33,), kind=8)]), "cannot be stored as q8_0, 32 values a block"),
        (header(tensors=[tensor(dims=(2**63, 2**63))]), "'t' ends at byte .*: the file is cut short"),
        (header(tensors=[tensor(offset=2**63)]), "'t' ends at byte"),
        (header(tensors=[tensor(offset=4)]) + b"\x00" * 200, "not aligned"),
        (header(tensors=[tensor(), tensor("u", offset=16)]) + b"\x00" * 200, "'t' and 'u' overlap"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, data: bytes, complaint: str) -> None:
    with pytest.raises(ModelFileError, match=complaint) as caught:
        read(tmp_path, data)
    assert str(tmp_path) in str(caught.value)


def test_text_that_is_not_utf8_in_an_array_is_named_when_asked_for(tmp_path: Path) -> None:
    array = struct.pack("<IQ", 8, 2) + string("ok") + struct.pack("<Q", 1) + b"\xff"
    found = read(tmp_path, header(metadata=[pair("k", 9, array)]))
    with pytest.raises(ModelFileError, match="element 1 of 'k' is not UTF-8"):
        _ = found.metadata["k"].values


@pytest.fixture(scope="module")
def sound_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "x.gguf"
    tokens = {"tokenizer.ggml.tokens": [f"t{i}" for i in range(20)], "tokenizer.ggml.eos_token_id": 2}
    return write_gguf(path, decoder_metadata() | tokens, decoder_tensors()).read_bytes()


def open_all(path: Path) -> None:
    """Read whatever can be read; only ModelFileError may come of it."""
    with suppress(ModelFileError):
        open_model(path)
    with suppress(ModelFileError):
        for value in read_gguf_header(path).metadata.values():
            _ = value.values if isinstance(value, GgufArray) else value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)
@given(changes=st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 255)), max_size=4), cut=st.integers(0, 3000))
def test_any_damage_to_the_header_is_a_model_file_error(
    tmp_path: Path, sound_file: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(sound_file)
    for place, value in changes:
        damaged[place] = value
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged if cut % 2 else damaged[:cut])
    tracemalloc.start()
    open_all(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_file_cut_anywhere_is_a_model_file_error(tmp_path: Path, sound_file: bytes) -> None:
    path = tmp_path / "cut.gguf"
    for length in [*range(0, 3000, 61), *range(3000, len(sound_file), 9973)]:
        path.write_bytes(sound_file[:length])
        with pytest.raises(ModelFileError):
            open_model(path)
