from __future__ import annotations

import json
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kvik.errors import ModelFileError
from kvik.weights.safetensors import SafetensorsFile

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def by_hand(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def everything(file: SafetensorsFile) -> dict[str, torch.Tensor]:
    raw = file.tensors({name: name for name in file.infos})
    return {tensor.name: tensor.data.view(DTYPES[tensor.fmt]).view(tensor.shape) for tensor in raw}


def test_reads_what_the_reference_library_wrote(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "a": torch.randn(3, 5),
        "b": torch.randn(7).bfloat16(),
        "c": torch.randn(2, 2, 2).half(),
        "scalar": torch.tensor(3.0),
        "none": torch.empty(0, 4),
    }
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    ours = everything(SafetensorsFile(tmp_path / "m.safetensors"))
    truth = load_file(tmp_path / "m.safetensors")
    assert ours.keys() == truth.keys()
    for name in truth:
        assert torch.equal(ours[name], truth[name])
        assert ours[name].dtype == truth[name].dtype


def test_tensors_come_in_the_order_of_the_file_under_the_wanted_names(tmp_path: Path) -> None:
    header = {"late": entry(offsets=(8, 16)), "early": entry(offsets=(0, 8)), "other": entry(offsets=(16, 24))}
    file = SafetensorsFile(by_hand(tmp_path / "m", header, bytes(24)))
    assert [tensor.name for tensor in file.tensors({"late": "L", "early": "E"})] == ["E", "L"]


def test_values_that_are_not_aligned_can_be_seen_as_values(tmp_path: Path) -> None:
    header = b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    assert (8 + len(header)) % 4
    file = SafetensorsFile(by_hand(tmp_path / "m", header, struct.pack("<2f", 1.5, -2.0)))
    assert everything(file)["t"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ({"t": 3}, "'t' is described by int"),
        ({"t": entry(dtype="F8_E5M2", offsets=(0, 2))}, "'t' has dtype 'F8_E5M2'; readable are F32, F16, BF16"),
        ({"t": entry(shape=(-1,))}, "shape of tensor 't' must be"),
        ({"t": entry(shape=(2.0,))}, "shape of tensor 't' must be"),
        ({"t": entry(shape=[1] * 17)}, "shape of tensor 't' must be"),
        ({"t": entry(offsets=(8, 0))}, "'t' lies at"),
        ({"t": entry(offsets=(8, 25))}, "'t' lies at \\[8, 25\\], outside the 24 bytes"),
        ({"t": entry(offsets=(0,))}, "'t' lies at"),
        ({"t": entry(offsets=None)}, "data_offsets of tensor 't' must be"),
        ({"t": entry(shape=(3,))}, "takes 12 bytes, not 8"),
        ({"t": entry(shape=(2**62, 2**62))}, "takes .* bytes, not 8"),
        ({"t": entry(), "u": entry(offsets=(4, 12))}, "'t' and 'u' overlap"),
        ([], "must hold a JSON object"),
        (b"{{}", "not usable JSON"),
        (b'{"t":{},"t":{}}', "'t' occurs twice"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_broken_headers_are_named(tmp_path: Path, header: Any, complaint: str) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        SafetensorsFile(by_hand(tmp_path / "m.safetensors", header, bytes(24)))


@pytest.mark.parametrize("data", [b"1", b"1234567", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 3) + b"{}"])
def test_a_header_longer_than_the_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(ModelFileError, match="not safetensors"):
        SafetensorsFile(tmp_path / "m")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(changes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=3), cut=st.integers(0, 600))
def test_any_damage_is_a_model_file_error(tmp_path: Path, changes: list[tuple[int, int]], cut: int) -> None:
    tensors = {"a": torch.ones(3, 5), "b": torch.ones(7).bfloat16()}
    save_file(tensors, tmp_path / "m")
    damaged = bytearray((tmp_path / "m").read_bytes())
    for place, value in changes:
        damaged[place % len(damaged)] = value
    (tmp_path / "m").write_bytes(damaged if cut % 2 else damaged[:cut])
    tracemalloc.start()
    with suppress(ModelFileError):
        everything(SafetensorsFile(tmp_path / "m"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
