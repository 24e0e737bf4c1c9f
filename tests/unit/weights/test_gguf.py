"""GGUF weights against the reference package's table of names, its dequantisation, and the conversion's formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, get_tensor_name_map
from gguf.quants import dequantize, quantize

from kvik.errors import ModelFileError
from kvik.modelfile import open_model
from kvik.weights import RawTensor, open_checkpoint
from kvik.weights.gguf import hf_name
from support.gguf_files import HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, decoder_metadata, decoder_tensors, write_gguf

FLOATS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def as_values(raw: RawTensor) -> torch.Tensor:
    if raw.fmt in FLOATS:
        return raw.data.view(FLOATS[raw.fmt]).float().view(raw.shape)
    rows = raw.data.view(raw.shape[0], -1).numpy()
    return torch.from_numpy(dequantize(rows, GGMLQuantizationType[raw.fmt.upper()])).view(raw.shape)


def read(path: Path) -> dict[str, RawTensor]:
    return {raw.name: raw for shard in open_checkpoint(open_model(path)).shards() for raw in shard.tensors()}


def permuted(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """The order of rows that the conversion to GGUF gives q and k of the Llama architecture."""
    return rows.reshape(num_heads, 2, HEAD_DIM // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def converted(name: str, values: np.ndarray, architecture: str) -> np.ndarray:
    """What the conversion to GGUF makes of a tensor called `name` by Hugging Face."""
    if architecture == "llama" and "q_proj" in name:
        return permuted(values, HEADS)
    if architecture == "llama" and "k_proj" in name:
        return permuted(values, KV_HEADS)
    return values + 1 if architecture == "gemma3" and name.endswith("norm.weight") else values


@pytest.mark.parametrize(
    ("architecture", "fmt"),
    [("llama", "q8_0"), ("llama", "q5_1"), ("qwen2", "q4_0"), ("qwen3", "bf16"), ("gemma3", "q4_1")],
)
def test_what_the_conversion_changed_is_undone(tmp_path: Path, architecture: str, fmt: str) -> None:
    kind = GGMLQuantizationType[fmt.upper()]
    name_map = get_tensor_name_map(MODEL_ARCH[architecture.upper()], LAYERS)
    tensors, originals = {}, {}
    for gguf_name, values in decoder_tensors(architecture).items():
        name = next(n for n in candidates(gguf_name) if name_map.get_name(n, (".weight", ".bias")) == gguf_name)
        originals[name] = dequantize(quantize(values, kind), kind) if values.ndim == 2 else values
        tensors[gguf_name] = converted(name, originals[name], architecture)
    quantized = {name: fmt for name, values in tensors.items() if values.ndim == 2}
    changes = {"attention__sliding_window": 32} if architecture == "gemma3" else {}
    ours = read(write_gguf(tmp_path / "x.gguf", decoder_metadata(architecture, **changes), tensors, quantized))
    assert ours.keys() == originals.keys()
    for name, raw in ours.items():
        assert raw.fmt == (fmt if len(raw.shape) == 2 else "f32")
        np.testing.assert_allclose(as_values(raw), originals[name], rtol=0, atol=1e-6, err_msg=name)


def candidates(gguf_name: str) -> list[str]:
    """All names that Hugging Face gives tensors of a model of these architectures."""
    parts = [f"self_attn.{p}" for p in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")]
    parts += [f"mlp.{p}" for p in ("gate_proj", "up_proj", "down_proj")]
    norms = ("input", "post_attention", "pre_feedforward", "post_feedforward")
    parts += [f"{p}_layernorm" for p in norms]
    stems = ["model.embed_tokens", "model.norm", "lm_head"]
    stems += [f"model.layers.{layer}.{part}" for layer in range(LAYERS) for part in parts]
    return [stem + gguf_name[gguf_name.rindex(".") :] for stem in stems]


def test_biases_of_q_and_k_move_with_their_rows(tmp_path: Path) -> None:
    q, k = np.arange(HEADS * HEAD_DIM, dtype=np.float32), np.arange(KV_HEADS * HEAD_DIM, dtype=np.float32)
    biases = {"blk.0.attn_q.bias": permuted(q, HEADS), "blk.0.attn_k.bias": permuted(k, KV_HEADS)}
    ours = read(write_gguf(tmp_path / "x.gguf", decoder_metadata(), decoder_tensors() | biases))
    assert as_values(ours["model.layers.0.self_attn.q_proj.bias"]).tolist() == q.tolist()
    assert as_values(ours["model.layers.0.self_attn.k_proj.bias"]).tolist() == k.tolist()


def test_frequency_factors_are_handed_on(tmp_path: Path) -> None:
    factors = {"rope_freqs.weight": np.linspace(1, 8, HEAD_DIM // 2, dtype=np.float32)}
    ours = read(write_gguf(tmp_path / "x.gguf", decoder_metadata(), decoder_tensors() | factors))
    assert as_values(ours["rope_freqs.weight"]).tolist() == factors["rope_freqs.weight"].tolist()


def test_norms_of_gemma_stored_in_half_precision(tmp_path: Path) -> None:
    norm = {"output_norm.weight": np.linspace(0.5, 1.5, HIDDEN, dtype=np.float32)}
    metadata = decoder_metadata("gemma3", attention__sliding_window=32)
    tensors = decoder_tensors("gemma3") | norm
    ours = read(write_gguf(tmp_path / "x.gguf", metadata, tensors, {"output_norm.weight": "f16"}))
    assert ours["model.norm.weight"].fmt == "f32"
    stored = torch.from_numpy(norm["output_norm.weight"]).half().float()
    assert torch.equal(as_values(ours["model.norm.weight"]), stored - 1)


def test_one_shard_of_all_bytes_in_the_order_of_the_file(tmp_path: Path) -> None:
    tensors = decoder_tensors()
    path = write_gguf(tmp_path / "x.gguf", decoder_metadata(), tensors)
    checkpoint = open_checkpoint(open_model(path))
    (shard,) = checkpoint.shards()
    assert (checkpoint.num_shards, shard.name) == (1, "x.gguf")
    assert checkpoint.num_bytes == sum(array.nbytes for array in tensors.values())
    names = [raw.name for raw in shard.tensors()]
    assert names == [hf_name(name, "LlamaForCausalLM", "x") for name in tensors]
    shard.release()
    assert [raw.name for raw in shard.tensors()] == names


@pytest.mark.parametrize(
    "name", ["blk.0.attn_post_norm.weight", "blk.0.attn_q.scale", "mm.0.weight", "blk.x.attn_q.weight"]
)
def test_a_tensor_without_a_place_is_named(tmp_path: Path, name: str) -> None:
    tensors = decoder_tensors() | {name: np.ones(8, np.float32)}
    with pytest.raises(ModelFileError, match=f"tensor '{name}' has no place in a LlamaForCausalLM"):
        open_checkpoint(open_model(write_gguf(tmp_path / "x.gguf", decoder_metadata(), tensors)))


def test_rows_that_heads_cannot_share(tmp_path: Path) -> None:
    tensors = decoder_tensors() | {"blk.0.attn_q.weight": np.ones((HEADS * HEAD_DIM + 1, HIDDEN), np.float32)}
    path = write_gguf(tmp_path / "x.gguf", decoder_metadata(), tensors)
    with pytest.raises(ModelFileError, match=r"q_proj\.weight' has 65 rows, which 4 heads cannot share"):
        read(path)


def test_a_file_that_was_cut_short_since(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "x.gguf", decoder_metadata(), decoder_tensors())
    model = open_model(path)
    other = tmp_path / "cut"
    other.write_bytes(path.read_bytes()[:5000])
    other.replace(path)  # truncating the mapped file itself would be a bus error, in any program
    with pytest.raises(ModelFileError, match="has become shorter"):
        open_checkpoint(model)
