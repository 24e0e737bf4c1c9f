from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kvik.errors import ModelFileError
from kvik.weights.folder import FolderCheckpoint

A, B = torch.ones(4), torch.zeros(6, dtype=torch.bfloat16)


def sharded(folder: Path) -> Path:
    save_file({"a": A}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": B, "extra": A}, folder / "model-00002-of-00002.safetensors")
    weight_map = {"b": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def contents(checkpoint: FolderCheckpoint) -> dict[str, list[str]]:
    return {shard.name: [tensor.name for tensor in shard.tensors()] for shard in checkpoint.shards()}


def test_one_file(tmp_path: Path) -> None:
    save_file({"a": A, "b": B}, tmp_path / "model.safetensors")
    checkpoint = FolderCheckpoint(tmp_path)
    assert (checkpoint.num_shards, checkpoint.num_bytes) == (1, 16 + 12)
    assert sorted(contents(checkpoint)["model.safetensors"]) == ["a", "b"]


def test_one_file_by_another_name(tmp_path: Path) -> None:
    save_file({"a": A}, tmp_path / "consolidated.safetensors")
    assert contents(FolderCheckpoint(tmp_path)) == {"consolidated.safetensors": ["a"]}


def test_shards_in_order_each_with_what_the_index_gives_it(tmp_path: Path) -> None:
    checkpoint = FolderCheckpoint(sharded(tmp_path))
    assert list(contents(checkpoint).items()) == [
        ("model-00001-of-00002.safetensors", ["a"]),
        ("model-00002-of-00002.safetensors", ["b"]),
    ]
    assert checkpoint.num_bytes == 16 + 12


def test_release_leaves_what_was_handed_out_valid(tmp_path: Path) -> None:
    for shard in FolderCheckpoint(sharded(tmp_path)).shards():
        tensors = list(shard.tensors())
        shard.release()
        assert all(t.data.view(torch.float32 if t.name == "a" else torch.bfloat16).sum() in (4, 0) for t in tensors)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_of_a_model_of_text_and_images_only_the_text_model(tmp_path: Path, prefix: str) -> None:
    images = {"vision_tower.x": A, "model.vision_tower.y": A, "multi_modal_projector.z": A}
    tensors = {prefix + "norm.weight": A, "language_model.lm_head.weight": A, **images}
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    checkpoint = FolderCheckpoint(tmp_path)
    assert sorted(contents(checkpoint)["model.safetensors"]) == ["lm_head.weight", "model.norm.weight"]
    assert checkpoint.num_bytes == 32


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (sharded(tmp_path) / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"lacks 1 of 2 shards: model-00001-of-00002\.safetensors"):
        FolderCheckpoint(tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    save_file({"other": A}, sharded(tmp_path) / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelFileError, match=r"model-00001-of-00002\.safetensors lacks tensor 'a'"):
        FolderCheckpoint(tmp_path)


@pytest.mark.parametrize("name", ["../m.safetensors", "/etc/m.safetensors", "m.bin", "", 3])
def test_an_index_that_points_elsewhere(tmp_path: Path, name: object) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelFileError, match=r"'a' is in .*it must be a .safetensors file beside it"):
        FolderCheckpoint(tmp_path)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_an_index_without_a_map(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelFileError, match="'weight_map' must be"):
        FolderCheckpoint(tmp_path)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ModelFileError, match=r"pytorch_model\.bin, a pickle.*save_pretrained"):
        FolderCheckpoint(tmp_path)


def test_no_weights_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="has no weights"):
        FolderCheckpoint(tmp_path)


def test_several_files_and_no_index(tmp_path: Path) -> None:
    for name in "ab":
        save_file({name: A}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelFileError, match=r"2 \.safetensors files but no"):
        FolderCheckpoint(tmp_path)
