"""Weights by way of pinned buffers: bit for bit what the host's own loader makes, in pieces of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fakes.slow_lane import SlowLane
from kvik.errors import ModelFileError
from kvik.kernels.quantize import quantize
from kvik.layers.load import load_parameters
from kvik.layers.parameters import ParameterTable
from kvik.layers.upload import Upload
from kvik.modelfile.quantization import Quantization
from kvik.weights import RawTensor
from kvik.weights.file_source import PAGE_BYTES
from kvik.weights.folder import FolderCheckpoint
from kvik.weights.fp8 import Fp8Checkpoint
from kvik.weights.stream import WeightStream

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three pages: a tensor takes several, and there are fewer than pieces."""
    original = WeightStream.__init__

    def small(stream: WeightStream, lane: Any, **_: Any) -> None:
        original(stream, lane, num_readers=2, num_buffers=3, buffer_bytes=4 * PAGE_BYTES)

    monkeypatch.setattr(WeightStream, "__init__", small)


def declared(shapes: dict[str, tuple[int, int]], fmt: str) -> tuple[ParameterTable, list[Any]]:
    table = ParameterTable("TestForCausalLM", torch.float32, format_of=lambda _name, _k: fmt)
    columns = {k for _, k in shapes.values()}
    weights = [w for k in columns for w in table.packed({n: s[0] for n, s in shapes.items() if s[1] == k}, k)]
    return table, weights


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 90), st.sampled_from([1, 3, 64, 1000, 5000]), st.sampled_from(DTYPES)),
        min_size=1, max_size=6,
    ),
    pad=st.integers(0, 7),
)  # fmt: skip
def test_matrices_of_any_shape_from_a_file(
    sizes: list[tuple[int, int, torch.dtype]], pad: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`pad` bytes in front put what follows out of alignment. Rows of 5,000 x 4 bytes are longer than a buffer."""
    folder = tmp_path_factory.mktemp("any")
    tensors = {f"t{i}.weight": torch.randn(n, k).to(dtype) for i, (n, k, dtype) in enumerate(sizes)}
    save_file({**tensors, "a.pad": torch.zeros(pad, dtype=torch.uint8)}, folder / "model.safetensors")
    shapes = {name: (tensor.shape[0], tensor.shape[1]) for name, tensor in tensors.items()}
    host, wanted = declared(shapes, "f32")
    device, found = declared(shapes, "f32")
    host.unused.add("a.pad")
    device.unused.add("a.pad")
    load_parameters(host, FolderCheckpoint(folder))
    lane = SlowLane()
    told: list[int] = []
    load_parameters(device, FolderCheckpoint(folder), on_bytes=told.append, lane=lane)
    assert all(torch.equal(a.data, b.data) for a, b in zip(wanted, found, strict=True))
    assert sum(told) == pad + sum(tensor.nbytes for tensor in tensors.values())


@pytest.mark.parametrize(("stored", "kept"), [("q8_0", "q8_0"), ("q4_1", "q4_1"), ("q4_0", "f32"), ("f32", "q8_0")])
def test_blocks_that_are_in_no_file(checkpoint: Any, stored: str, kept: str) -> None:
    """As checkpoints of GPTQ and AWQ come: joined on the host. Some are kept as they are, some converted."""
    values = torch.randn(170, 256)
    data = quantize(values, stored).view(-1) if stored != "f32" else values.view(-1).view(torch.uint8)
    raw = RawTensor("m.weight", (170, 256), stored, data)
    host, (wanted,) = declared({"m.weight": (170, 256)}, kept)
    device, (found,) = declared({"m.weight": (170, 256)}, kept)
    checkpoint.add_raw(raw)
    load_parameters(host, checkpoint)
    checkpoint.all_shards[0].is_released = False
    lane = SlowLane()
    load_parameters(device, checkpoint, lane=lane)
    assert torch.equal(wanted.data, found.data)
    assert lane.num_copies > 1


@pytest.mark.parametrize("kept", ["fp8_static", "fp8_block", "f32"])
def test_codes_from_a_file_meet_the_scales_of_their_rows(tmp_path: Path, kept: str) -> None:
    """8-bit floats in several pieces, and rows of them that no buffer holds."""
    stored = "fp8_static" if kept == "f32" else kept
    for n, k in ((170, 256), (3, 20_000)):
        parts = {"weight_scale": torch.rand(n), "input_scale": torch.tensor(3.0)}
        if stored == "fp8_block":
            parts = {"weight_scale_inv": torch.rand(-(-n // 128), -(-k // 128))}
        tensors = {f"m.{name}": tensor for name, tensor in parts.items()}
        save_file({"m.weight": torch.randn(n, k).to(torch.float8_e4m3fn), **tensors}, tmp_path / "model.safetensors")
        checkpoint = Fp8Checkpoint(FolderCheckpoint(tmp_path), Quantization("fp8", 8, 0, True, fp8=stored))
        host, (wanted,) = declared({"m.weight": (n, k)}, kept)
        device, (found,) = declared({"m.weight": (n, k)}, kept)
        load_parameters(host, checkpoint)
        load_parameters(device, checkpoint, lane=SlowLane())
        assert torch.equal(wanted.plain(), found.plain())
        assert wanted.plain().unique().numel() > n
        assert (wanted.input_scale, found.input_scale) == ((3.0, 3.0) if kept == "fp8_static" else (None, None))


def test_a_file_that_became_short(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"m.weight": torch.randn(300, 64)}, path)
    checkpoint = FolderCheckpoint(tmp_path)
    with path.open("r+b") as file:
        file.truncate(50_000)
    table, _ = declared({"m.weight": (300, 64)}, "f32")
    with pytest.raises(ModelFileError, match=r"model\.safetensors ends at byte 50000"):
        load_parameters(table, checkpoint, lane=SlowLane())


def test_files_are_closed_between_shards(tmp_path: Path) -> None:
    save_file({"m.weight": torch.randn(3, 64)}, tmp_path / "model.safetensors")
    table, _ = declared({"m.weight": (3, 64)}, "f32")
    with Upload(SlowLane(), lambda num_bytes: None) as upload:
        for raw in next(FolderCheckpoint(tmp_path).shards()).tensors():
            upload.tensor(raw, table.by_name[raw.name])
        assert upload._sources
        upload.finish_shard()
        assert not upload._sources
