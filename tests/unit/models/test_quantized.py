"""Models whose matrices stay quantised, against the same model with those matrices dequantised by the gguf package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from kvik.layers.formats import formats_in_memory
from kvik.modelfile import open_model
from kvik.models import Model, build_model
from kvik.weights import open_checkpoint
from support import gguf_files
from support.gguf_files import decoder_metadata, decoder_tensors, write_gguf

PROMPT = [5, 17, 3, 299, 42, 8, 8, 120]
STORED = ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"]
IN_MEMORY = {"q5_0": "q8_0", "q5_1": "bf16", "q5_k": "bf16"}
Tensors = dict[str, np.ndarray]


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of which a row is whole blocks of 256."""
    monkeypatch.setattr(gguf_files, "HIDDEN", 256)
    monkeypatch.setattr(gguf_files, "HEAD_DIM", 64)
    monkeypatch.setattr(gguf_files, "INTERMEDIATE", 256)


def load(path: Path) -> Model:
    model_file = open_model(path)
    checkpoint = open_checkpoint(model_file)
    formats = formats_in_memory(None, checkpoint, "bf16")
    model = build_model(model_file.spec, torch.bfloat16, format_of=formats)
    model.load(checkpoint)
    return model


def random_blocks(kind: Any, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Any codes; scales such that values are about as large as those of a trained matrix."""
    size, num_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(seed).integers(0, 256, (shape[0] * shape[1] // size, num_bytes), np.uint8)
    scale, offset = {"Q8_0": (0.001, 0), "Q4_1": (0.02, -0.15), "Q5_1": (0.01, -0.15), "Q4_K": (2e-4, 1.5e-3),
                     "Q5_K": (1e-4, 1.5e-3), "Q6_K": (5e-5, 0)}.get(kind.name, (0.01, 0))  # fmt: skip
    at = 208 if kind.name == "Q6_K" else 0
    blocks[:, at : at + 2] = np.array([scale], np.float16).view(np.uint8)
    if offset:
        blocks[:, 2:4] = np.array([offset], np.float16).view(np.uint8)
    return blocks.reshape(shape[0], -1)


def two_files(folder: Path, formats: dict[str, str], metadata: dict[str, Any], tensors: Tensors) -> tuple[Path, Path]:
    """The model with some matrices in random blocks of `formats`, and with what those mean in f32."""
    quantised, plain = dict(tensors), dict(tensors)
    for seed, (name, fmt) in enumerate(formats.items()):
        kind = gguf.GGMLQuantizationType[fmt.upper()]
        quantised[name] = random_blocks(kind, tensors[name].shape, seed)
        plain[name] = gguf.quants.dequantize(quantised[name], kind).astype(np.float32)
    return (
        write_gguf(folder / "quantised.gguf", metadata, quantised, formats),
        write_gguf(folder / "plain.gguf", metadata, plain),
    )


def kl(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Mean Kullback-Leibler divergence of next-token distributions, nats."""
    p, q = expected.log_softmax(-1), found.log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("fmt", STORED)
def test_every_format(tmp_path: Path, wide: None, paged_driver: Any, fmt: str, tied: bool) -> None:
    tensors = decoder_tensors("llama", tied=tied)
    formats = {name: fmt for name, values in tensors.items() if values.ndim == 2}
    metadata = decoder_metadata(attention__head_count=4, embedding_length=256, feed_forward_length=256)
    quantised, plain = (load(path) for path in two_files(tmp_path, formats, metadata, tensors))
    assert set(quantised.weights_bytes_by_format) == {"f32", IN_MEMORY.get(fmt, fmt)}
    wanted, found = (paged_driver(model).prompt_logits(PROMPT) for model in (plain, quantised))
    assert kl(wanted, found) < 2e-3
    assert kl(wanted, wanted.flip(0)) > 0.1, "the distributions do differ"


def test_parts_of_a_projection_in_formats_of_their_own(tmp_path: Path, wide: None, paged_driver: Any) -> None:
    """As in Q4_K_M: V in more bits than Q and K; here with biases, and gate unlike up too."""
    tensors = decoder_tensors("qwen2")
    formats: dict[str, str] = {}
    for layer in range(gguf_files.LAYERS):
        parts = {"attn_q": "q4_k", "attn_k": "q4_k", "attn_v": "q6_k", "ffn_gate": "q8_0", "ffn_up": "q4_0"}
        formats |= {f"blk.{layer}.{part}.weight": fmt for part, fmt in parts.items()}
    metadata = decoder_metadata("qwen2", embedding_length=256, feed_forward_length=256)
    quantised, plain = (load(path) for path in two_files(tmp_path, formats, metadata, tensors))
    assert [weight.format for weight in quantised.layers[0].qkv_proj.weights] == ["q4_k", "q6_k"]  # type: ignore[attr-defined]
    wanted, found = (paged_driver(model).prompt_logits(PROMPT) for model in (plain, quantised))
    assert kl(wanted, found) < 2e-3


def test_memory_is_about_the_file(tmp_path: Path, wide: None) -> None:
    tensors = decoder_tensors("llama", tied=True)
    formats = {name: "q4_0" for name, values in tensors.items() if values.ndim == 2}
    metadata = decoder_metadata(embedding_length=256, feed_forward_length=256)
    path, _ = two_files(tmp_path, formats, metadata, tensors)
    num_bytes = open_checkpoint(open_model(path)).num_bytes
    assert load(path).weights_bytes < 1.2 * num_bytes
