"""Layers in 8-bit floats come with the scales of their rows, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kvik.errors import ModelFileError
from kvik.modelfile.quantization import Quantization
from kvik.weights import RawTensor
from kvik.weights.folder import FolderCheckpoint
from kvik.weights.fp8 import Fp8Checkpoint

N, K = 200, 272
CODES = torch.randn(N, K, generator=torch.Generator().manual_seed(0)).to(torch.float8_e4m3fn)


def read(folder: Path, fmt: str, **parts: torch.Tensor) -> dict[str, RawTensor]:
    others = {"model.norm.weight": torch.ones(K), "lm_head.weight": torch.ones(8, K, dtype=torch.bfloat16)}
    tensors = {f"model.q_proj.{part}": tensor for part, tensor in parts.items()}
    save_file({"model.q_proj.weight": CODES, **tensors, **others}, folder / "model.safetensors")
    quantization = Quantization("fp8", 8, 0, symmetric=True, packed=False, fp8=fmt)
    checkpoint = Fp8Checkpoint(FolderCheckpoint(folder), quantization)
    raws = {raw.name: raw for shard in checkpoint.shards() for raw in shard.tensors()}
    assert {name: checkpoint.format_of(name) for name in raws} == {name: raw.fmt for name, raw in raws.items()}
    assert set(raws) == {"model.q_proj.weight", *others}
    assert raws["lm_head.weight"].fmt == "bf16", "the list of what is not quantised is what is stored otherwise"
    return raws


@pytest.mark.parametrize("scale", [torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[0.5]]).to(torch.bfloat16)])
def test_one_scale_for_all(tmp_path: Path, scale: torch.Tensor) -> None:
    raw = read(tmp_path, "fp8", weight_scale=scale)["model.q_proj.weight"]
    assert torch.equal(raw.data, CODES.view(torch.uint8).flatten())
    assert raw.span is not None, "codes are read from where they lie"
    assert raw.scales is not None
    assert torch.equal(raw.scales, torch.full((N, 1), 0.5))


@pytest.mark.parametrize("names", [("weight_scale", "input_scale"), ("weight_scale_inv", "activation_scale")])
def test_scales_of_rows_and_a_fixed_one_of_inputs(tmp_path: Path, names: tuple[str, str]) -> None:
    """As compressed-tensors calls them, and as transformers does."""
    scales = torch.rand(N) + 0.1
    parts = dict(zip(names, (scales[:, None].clone(), torch.tensor(2.0)), strict=True))
    found = read(tmp_path, "fp8_static", **parts)
    of_rows = found["model.q_proj.weight"].scales
    assert of_rows is not None
    assert torch.equal(of_rows, torch.stack([scales, torch.full((N,), 2.0)], dim=1))


def test_scales_of_squares(tmp_path: Path) -> None:
    squares = torch.rand(2, 3) + 0.1
    found = read(tmp_path, "fp8_block", weight_scale_inv=squares)["model.q_proj.weight"].scales
    assert found is not None
    assert torch.equal(found, torch.stack([squares[row // 128] for row in range(N)]))
    groups = torch.rand(N, 3)
    again = read(tmp_path, "fp8_block", weight_scale=groups)["model.q_proj.weight"].scales
    assert again is not None
    assert torch.equal(again, groups)


@pytest.mark.parametrize(
    ("fmt", "parts", "complaint"),
    [
        ("fp8", {}, "layer model.q_proj, in 8-bit floats: it lacks weight_scale or weight_scale_inv"),
        ("fp8", {"weight_scale": torch.ones(7)}, r"its weight_scale is \[7\]; for 200 x 272 it must be \[1\], \[200\]"),
        ("fp8_block", {"weight_scale_inv": torch.ones(2, 2)}, r"is \[2, 2\]; .* in squares of 128 it must be \[2, 3\]"),
        ("fp8", {"weight_scale": torch.tensor(torch.nan)}, "numbers below 0 or without an end"),
        ("fp8", {"weight_scale": torch.tensor(-1.0)}, "numbers below 0 or without an end"),
        ("fp8", {"weight_scale": torch.tensor(1)}, "its weight_scale is stored as i64; it must be one of f32"),
        ("fp8_static", {"weight_scale": torch.tensor(1.0)}, "it lacks input_scale, though quantization_config says"),
        (
            "fp8_static",
            {"weight_scale": torch.tensor(1.0), "input_scale": torch.zeros(2)},
            r"its input_scale is \[2\]; it must be one number above 0",
        ),
    ],
)
def test_layers_that_contradict_themselves(
    tmp_path: Path, fmt: str, parts: dict[str, torch.Tensor], complaint: str
) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        read(tmp_path, fmt, **parts)


def test_scales_of_keys_and_values_have_one_name(tmp_path: Path) -> None:
    stored = ["self_attn.k_proj.k_scale", "self_attn.v_proj.output_scale"]
    save_file({f"model.layers.3.{name}": torch.ones(1) for name in stored}, tmp_path / "model.safetensors")
    found = [raw.name for shard in FolderCheckpoint(tmp_path).shards() for raw in shard.tensors()]
    assert sorted(found) == ["model.layers.3.self_attn.k_scale", "model.layers.3.self_attn.v_scale"]
