"""Folders that look like a published checkpoint: real shapes, random weights, a tokenizer of single characters.

`python -m bench.random_checkpoint SHAPE FOLDER [--config-only]` writes one. Made on the machine that is measured, for
nothing has to be brought there; the values do not matter to the speed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

STD = 0.02


@dataclass(frozen=True)
class Shape:
    """What of a config.json decides how much there is to do."""

    architecture: str
    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float
    ties_embeddings: bool
    max_positions: int = 40_960

    @property
    def has_head_norms(self) -> bool:
        return self.model_type == "qwen3"

    @property
    def num_matrix_weights(self) -> int:
        """That each token is multiplied with, the head included, the embedding not."""
        attention = self.hidden_size * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        return self.num_layers * (attention + 3 * self.hidden_size * self.intermediate_size) + (
            self.vocab_size * self.hidden_size
        )

    @property
    def kv_bytes_per_token(self) -> int:
        return 2 * 2 * self.num_layers * self.num_kv_heads * self.head_dim


LLAMA, QWEN3 = "LlamaForCausalLM", "Qwen3ForCausalLM"
SHAPES = {
    "llama-3.1-8b": Shape(LLAMA, "llama", 128_256, 4096, 14_336, 32, 32, 8, 128, 500_000.0, False),
    "qwen3-0.6b": Shape(QWEN3, "qwen3", 151_936, 1024, 3072, 28, 16, 8, 128, 1_000_000.0, True),
    "tiny": Shape(LLAMA, "llama", 4096, 64, 128, 2, 4, 2, 16, 10_000.0, False, 1024),
}


def write(shape: Shape, folder: Path, *, weights: bool = True) -> None:
    """Into `folder`, which is made. Takes memory of one tensor. Leaves the weights in the system's cache."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(shape)))
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.0}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(shape.vocab_size)))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    if weights:
        _write_weights(shape, folder / "model.safetensors")


def config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": [shape.architecture], "model_type": shape.model_type, "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size, "intermediate_size": shape.intermediate_size, "hidden_act": "silu",
        "num_hidden_layers": shape.num_layers, "num_attention_heads": shape.num_heads, "head_dim": shape.head_dim,
        "num_key_value_heads": shape.num_kv_heads, "max_position_embeddings": shape.max_positions,
        "rms_norm_eps": 1e-5, "rope_theta": shape.rope_theta, "tie_word_embeddings": shape.ties_embeddings,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16", "attention_bias": False, "mlp_bias": False,
    }  # fmt: skip


def tokenizer(vocab_size: int) -> dict[str, object]:
    """Bytes, and words that no text comes to; all that is generated can be written down."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
    words = [*alphabet, *(f"word{index}" for index in range(vocab_size - len(alphabet)))]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {word: index for index, word in enumerate(words)}, "merges": [],
        },
    }  # fmt: skip


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each, in the order of the file."""
    hidden, heads, kv = shape.hidden_size, shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    yield "model.embed_tokens.weight", (shape.vocab_size, hidden)
    for layer in range(shape.num_layers):
        prefix = f"model.layers.{layer}."
        yield f"{prefix}input_layernorm.weight", (hidden,)
        for name, rows in (("q", heads), ("k", kv), ("v", kv)):
            yield f"{prefix}self_attn.{name}_proj.weight", (rows, hidden)
        if shape.has_head_norms:
            yield f"{prefix}self_attn.q_norm.weight", (shape.head_dim,)
            yield f"{prefix}self_attn.k_norm.weight", (shape.head_dim,)
        yield f"{prefix}self_attn.o_proj.weight", (hidden, heads)
        yield f"{prefix}post_attention_layernorm.weight", (hidden,)
        yield f"{prefix}mlp.gate_proj.weight", (shape.intermediate_size, hidden)
        yield f"{prefix}mlp.up_proj.weight", (shape.intermediate_size, hidden)
        yield f"{prefix}mlp.down_proj.weight", (hidden, shape.intermediate_size)
    yield "model.norm.weight", (hidden,)
    if not shape.ties_embeddings:
        yield "lm_head.weight", (shape.vocab_size, hidden)


def _write_weights(shape: Shape, path: Path) -> None:
    header: dict[str, object] = {}
    offset = 0
    for name, sizes in tensors(shape):
        num_bytes = 2 * torch.Size(sizes).numel()
        header[name] = {"dtype": "BF16", "shape": list(sizes), "data_offsets": [offset, offset + num_bytes]}
        offset += num_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator(place).manual_seed(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, sizes in tensors(shape):
            values = torch.randn(sizes, generator=generator, device=place, dtype=torch.bfloat16) * STD
            values = values + 1 if len(sizes) == 1 else values
            file.write(values.cpu().view(-1).view(torch.uint8).numpy().data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config-only", action="store_true", help="no weights: for --load-format dummy")
    args = parser.parse_args()
    write(SHAPES[args.shape], args.folder, weights=not args.config_only)


if __name__ == "__main__":
    main()
