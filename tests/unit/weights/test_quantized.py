"""GPTQ, AWQ and compressed-tensors layers become blocks that mean what the formats' definitions say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kvik.errors import ModelFileError
from kvik.modelfile.quantization import Quantization
from kvik.weights import RawTensor
from kvik.weights.folder import FolderCheckpoint
from kvik.weights.quantized import QuantizedCheckpoint
from support.quantized_folders import Layer, awq, compressed, gptq, write_folder

N, K = 24, 256


def read(folder: Path, quantization: Quantization) -> dict[str, RawTensor]:
    checkpoint = QuantizedCheckpoint(FolderCheckpoint(folder), quantization)
    raws = {raw.name: raw for shard in checkpoint.shards() for raw in shard.tensors()}
    assert {name: checkpoint.format_of(name) for name in raws} == {name: raw.fmt for name, raw in raws.items()}
    return raws


def values_of(raw: RawTensor) -> torch.Tensor:
    """By the gguf package."""
    blocks = raw.data.numpy().reshape(raw.shape[0], -1)
    values: Any = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[raw.fmt.upper()])
    return torch.from_numpy(np.array(values)).double()


def check(tmp_path: Path, layer: Layer, quantization: Quantization, fmt: str) -> None:
    others = {"model.norm.weight": torch.ones(K), "lm_head.weight": torch.ones(8, K, dtype=torch.float16)}
    raws = read(write_folder(tmp_path, {"model.q_proj": layer}, others), quantization)
    assert {name: raw.fmt for name, raw in raws.items()} == {
        "lm_head.weight": "f16", "model.norm.weight": "f32", "model.q_proj.weight": fmt,
    }  # fmt: skip
    values = values_of(raws["model.q_proj.weight"])
    if fmt == "q4_1":  # its offset, scale x zero point, is rounded to fp16: at most 15 scales x 2^-11
        torch.testing.assert_close(values, layer.values, rtol=0, atol=15 * 0.021 * 2**-11)
    else:
        assert torch.equal(values.float(), layer.values.float())


@pytest.mark.parametrize("group", [32, 64, 128, 0])
@pytest.mark.parametrize(("symmetric", "offset"), [(True, 1), (False, 1), (False, 0)])
def test_gptq(tmp_path: Path, group: int, symmetric: bool, offset: int) -> None:
    layer = gptq(N, K, group or K, symmetric=symmetric, offset=offset)
    quantization = Quantization("gptq", 4, group, symmetric, zero_point_offset=offset)
    check(tmp_path, layer, quantization, "q4_0" if symmetric else "q4_1")


def test_gptq_of_8_bits(tmp_path: Path) -> None:
    layer = gptq(N, K, 128, symmetric=True, bits=8)
    check(tmp_path, layer, Quantization("gptq", 8, 128, True, zero_point_offset=1), "q8_0")


@pytest.mark.parametrize("group", [32, 64, 128])
def test_awq(tmp_path: Path, group: int) -> None:
    check(tmp_path, awq(N, K, group), Quantization("awq", 4, group, False), "q4_1")


@pytest.mark.parametrize("group", [32, 64, 128, 0])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("n", [24, 21])
def test_compressed_tensors(tmp_path: Path, group: int, symmetric: bool, n: int) -> None:
    layer = compressed(n, K, group or K, symmetric=symmetric)
    quantization = Quantization("compressed-tensors", 4, group, symmetric)
    check(tmp_path, layer, quantization, "q4_0" if symmetric else "q4_1")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("group", [32, 0])
def test_compressed_tensors_of_8_bits(tmp_path: Path, packed: bool, group: int) -> None:
    layer = compressed(N, K, group or K, bits=8, packed=packed)
    check(tmp_path, layer, Quantization("compressed-tensors", 8, group, True, packed=packed), "q8_0")


def test_the_parts_of_a_layer_may_lie_in_several_files(tmp_path: Path) -> None:
    layer = gptq(N, K, 32, symmetric=True)
    names = {f"m.{part}": f"{i}.safetensors" for i, part in enumerate(layer.tensors)}
    for name, file in names.items():
        save_file({name: layer.tensors[name[2:]]}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(f'{{"weight_map": {str(names).replace(chr(39), chr(34))}}}')
    raws = read(tmp_path, Quantization("gptq", 4, 32, True, zero_point_offset=1))
    assert torch.equal(values_of(raws["m.weight"]).float(), layer.values.float())


def test_permuted_groups_are_refused_by_name(tmp_path: Path) -> None:
    layer = gptq(N, K, 32, symmetric=True)
    layer.tensors["g_idx"] = layer.tensors["g_idx"].flip(0).contiguous()
    with pytest.raises(ModelFileError, match=r"layer m, .*g_idx permutes the inputs .*desc_act=False"):
        read(write_folder(tmp_path, {"m": layer}), Quantization("gptq", 4, 32, True, zero_point_offset=1))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"scales": None}, "it lacks scales"),
        (
            {"scales": torch.ones(3, N)},
            r"its scales are \[24, 3\]; for 24 x 256 in groups of 32 they must be \[24, 8\]",
        ),
        ({"qzeros": torch.zeros(8, 3, dtype=torch.int32)}, "called symmetric, but has zero points other than 8"),
        ({"qzeros": torch.zeros(8, 2, dtype=torch.int32)}, r"its zero points are \[16, 8\]"),
        ({"qweight": torch.zeros(5, N, dtype=torch.int32)}, "40 inputs are no whole groups of 32"),
        ({"qweight": torch.zeros(5, dtype=torch.int32)}, "not a matrix"),
    ],
)
def test_layers_that_contradict_themselves(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    tensors = {**gptq(N, K, 32, symmetric=True).tensors, **change}
    layer = Layer({name: t for name, t in tensors.items() if t is not None}, torch.empty(0))
    with pytest.raises(ModelFileError, match=complaint):
        read(write_folder(tmp_path, {"m": layer}), Quantization("gptq", 4, 32, True, zero_point_offset=1))
