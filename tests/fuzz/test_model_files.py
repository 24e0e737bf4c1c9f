"""Broken GGUF and safetensors files: a ModelFileError or a file that reads as it says, never anything else."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvik.errors import ModelFileError
from kvik.modelfile.gguf import GgufArray, read_gguf_header
from kvik.modelfile.gguf_spec import parse_gguf_metadata
from kvik.modelfile.gguf_types import TENSOR_TYPES
from kvik.weights.gguf import GgufCheckpoint
from kvik.weights.safetensors import SafetensorsFile
from support.fuzzing import LONG_RUNS, SHORT_RUNS, Bytes, fuzz
from support.gguf_files import write_gguf

HIDDEN, VOCAB, HEADS = 8, 4, 2


def tiny_gguf(path: Path, architecture: str, **more: Any) -> bytes:
    """A whole model of two kilobytes, most of them header."""
    sizes = {
        "context_length": 16, "embedding_length": HIDDEN, "block_count": 1, "feed_forward_length": HIDDEN,
        "attention.head_count": HEADS, "attention.head_count_kv": HEADS, "attention.key_length": HIDDEN // HEADS,
        "attention.value_length": HIDDEN // HEADS, "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e4,
        "attention.sliding_window": 8 if architecture == "gemma3" else None,
    }  # fmt: skip
    square, row = np.ones((HIDDEN, HIDDEN), np.float32), np.ones(HIDDEN, np.float32)
    parts = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), square)
    parts |= dict.fromkeys(("attn_norm", "ffn_norm"), row)
    if architecture in ("qwen3", "gemma3"):
        parts |= dict.fromkeys(("attn_q_norm", "attn_k_norm"), row[: HIDDEN // HEADS])
    if architecture == "gemma3":
        parts |= dict.fromkeys(("post_attention_norm", "post_ffw_norm"), row)
    tensors = {"token_embd.weight": np.ones((VOCAB, HIDDEN), np.float32), "output_norm.weight": row}
    tensors |= {f"blk.0.{name}.weight": values for name, values in parts.items()}
    metadata = {"general.architecture": architecture} | {f"{architecture}.{k}": v for k, v in sizes.items()} | more
    return write_gguf(path, metadata, tensors).read_bytes()


STORED = {kind.name: kind for kind in TENSOR_TYPES.values()}


def read_gguf(path: Path) -> None:
    header = read_gguf_header(path)
    for value in header.metadata.values():
        if isinstance(value, GgufArray):
            try:
                assert len(value.values) == value.count
            except ModelFileError:  # of this key alone; who does not ask for it does not see it
                continue
    for shard in GgufCheckpoint(header, parse_gguf_metadata(header)).shards():
        for tensor in shard.tensors():
            kind = STORED[tensor.fmt]
            assert tensor.data.numel() == math.prod(tensor.shape) // kind.block_size * kind.block_bytes
            tensor.data.sum()  # every byte of it is there


def gguf_seeds(tmp_path: Path) -> list[bytes]:
    tokens = ["<s>", "</s>", "a", "\u00e9"]
    extra = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [3, 3, 1, 1],
             "tokenizer.ggml.scores": [0.0, 0.0, -1.0, -2.0], "tokenizer.ggml.eos_token_id": 1,
             "general.alignment": 32}  # fmt: skip
    seeds = [tiny_gguf(tmp_path / "seed", name, **extra) for name in ("llama", "qwen2", "qwen3", "gemma3")]
    nested = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 9, 2)
    return [*seeds, nested + struct.pack("<IQBB", 0, 2, 1, 2) + struct.pack("<IQQ", 8, 1, 1) + b"x"]


def read_safetensors(path: Path) -> None:
    file = SafetensorsFile(path)
    for tensor in file.tensors({name: name for name in file.infos}):
        info = file.infos[tensor.name]
        assert info.offset + info.num_bytes <= path.stat().st_size
        assert tensor.data.numel() == info.num_bytes
        tensor.data.sum()
    file.release()


def safetensors_seeds(tmp_path: Path) -> list[bytes]:
    entries = {
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
        "none": {"dtype": "I64", "shape": [0, 4], "data_offsets": [22, 22]},
        "c": {"dtype": "U8", "shape": [], "data_offsets": [22, 23]},
    }
    headers: list[Any] = [entries, {"__metadata__": {"format": "pt"}, **entries}, {}]
    texts = [json.dumps(header).encode() for header in headers]
    return [struct.pack("<Q", len(text)) + text + bytes(range(23)) for text in texts]


def with_sound_length(data: bytes) -> bytes:
    """A header of another length is said to be so, or almost all runs would end at its length."""
    return struct.pack("<Q", max(0, len(data) - 8 - 23)) + data[8:]


FORMATS = {"gguf": (gguf_seeds, read_gguf), "safetensors": (safetensors_seeds, read_safetensors)}


def run(name: str, tmp_path: Path, num_runs: int) -> str:
    make_seeds, read_file = FORMATS[name]
    rng = random.Random(5)
    inputs = Bytes(make_seeds(tmp_path), rng)
    path = tmp_path / "broken.gguf"

    def read() -> None:
        data = inputs.next()
        if name == "safetensors" and rng.random() < 0.8:
            data = with_sound_length(data)
        path.unlink(missing_ok=True)  # who still maps the last one keeps it
        path.write_bytes(data)
        read_file(path)

    return fuzz(read, num_runs, (ModelFileError,))


@pytest.mark.parametrize("name", FORMATS)
def test_some_broken_files(name: str, tmp_path: Path) -> None:
    run(name, tmp_path, SHORT_RUNS)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FORMATS)
def test_many_broken_files(name: str, tmp_path: Path) -> None:
    print(f"{name}: {run(name, tmp_path, LONG_RUNS)}")
