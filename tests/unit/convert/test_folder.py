"""A converted folder holds the bits that --quantization makes, in a format that others read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kvik.convert import convert_folder
from kvik.errors import ConfigError, KvikError
from kvik.kernels.quantize import quantize
from kvik.modelfile import ModelFile, open_model
from kvik.weights import open_checkpoint

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 40, "dtype": "bfloat16",
}  # fmt: skip
UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    """Two shards, and files beside them."""
    folder = tmp_path / "model"
    folder.mkdir()
    torch.manual_seed(0)
    shards = {
        "model-1.safetensors": {UP: torch.randn(21, 64).bfloat16(), NORM: torch.randn(64)},
        "model-2.safetensors": {DOWN: torch.randn(64, 96).half(), EMBEDDING: torch.randn(40, 64).bfloat16()},
    }
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    index = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_text("never copied")
    return open_model(folder)


@pytest.mark.parametrize(("quantization", "fmt"), [("int8", "q8_0"), ("int4", "q4_1")])
def test_the_same_bits_come_back(model: ModelFile, tmp_path: Path, quantization: str, fmt: str) -> None:
    shards: list[tuple[str, int, int]] = []
    convert_folder(model, quantization, tmp_path / "out", on_shard=lambda *call: shards.append(call))
    assert shards == [("model-1.safetensors", 1, 2), ("model-2.safetensors", 2, 2)]
    read = {raw.name: raw for shard in open_checkpoint(model).shards() for raw in shard.tensors()}
    converted = open_model(tmp_path / "out")
    assert converted.quantization is not None
    assert converted.quantization.embedding_bits == 8
    raws = {raw.name: raw for shard in open_checkpoint(converted).shards() for raw in shard.tensors()}
    assert raws.keys() == read.keys()
    for name, dtype in ((UP, torch.bfloat16), (DOWN, torch.float16)):
        values = read[name].data.view(dtype).view(read[name].shape)
        assert raws[name].fmt == fmt
        assert torch.equal(raws[name].data, quantize(values.float(), fmt).flatten())
    for name in (EMBEDDING, NORM):
        assert raws[name].fmt == read[name].fmt
        assert torch.equal(raws[name].data, read[name].data), "embedding and norms are written as they are"


@pytest.mark.parametrize(("quantization", "bits"), [("int8", 8), ("int4", 4)])
def test_others_read_it_by_the_format_alone(model: ModelFile, tmp_path: Path, quantization: str, bits: int) -> None:
    """scale x (code - zero point), with the safetensors package and nothing of kvik; int4's zero points are whole."""
    convert_folder(model, quantization, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model-1.safetensors")
    words = found["model.layers.0.mlp.up_proj.weight_packed"].long()
    codes = torch.stack([words >> bits * i & (1 << bits) - 1 for i in range(32 // bits)], 2).flatten(1)
    scales = found["model.layers.0.mlp.up_proj.weight_scale"].float()
    zero_points = torch.full_like(scales, 128)
    if bits == 4:
        packed = found["model.layers.0.mlp.up_proj.weight_zero_point"].long()
        zero_points = torch.stack([packed >> 4 * i & 15 for i in range(8)], 1).flatten(0, 1)[:21].float()
    values = (codes - zero_points.repeat_interleave(32, 1)) * scales.repeat_interleave(32, 1)
    original = load_file(model.path / "model-1.safetensors")[UP].float()
    steps = (values - original).abs() / scales.abs().repeat_interleave(32, 1)
    assert steps.quantile(0.99) < (0.52 if bits == 8 else 1.02), "half a step, and as much for a whole zero point"
    assert found["model.layers.0.mlp.up_proj.weight_shape"].tolist() == [21, 64]


def test_what_else_is_in_the_folder(model: ModelFile, tmp_path: Path) -> None:
    convert_folder(model, "int8", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json", "tokenizer.json",
    ]  # fmt: skip
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {name: config[name] for name in CONFIG} == CONFIG
    assert config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] == 8


def test_nothing_is_replaced_without_force(model: ModelFile, tmp_path: Path) -> None:
    output = tmp_path / "out"
    convert_folder(model, "int8", output)
    with pytest.raises(ConfigError, match=r"out exists already: choose another --output, or --force"):
        convert_folder(model, "int4", output)
    convert_folder(model, "int4", output, force=True)
    with pytest.raises(ConfigError, match=r"out is quantised already \(compressed-tensors\)"):
        convert_folder(open_model(output), "int8", tmp_path / "again")
    with pytest.raises(ConfigError, match="it is the model itself"):
        convert_folder(model, "int8", model.path, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"], "nothing is left half done"


def test_a_failure_leaves_nothing_behind(model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise KvikError("the disk is full")

    monkeypatch.setattr("kvik.convert.folder.write_safetensors", fail)
    with pytest.raises(KvikError, match="the disk is full"):
        convert_folder(model, "int8", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
