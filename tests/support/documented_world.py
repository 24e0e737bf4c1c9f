"""The machine that the pages of docs/ speak of, in a temporary folder: models, adapters, files of requests, programs.

The models are tiny and random, so that many servers start in the time of one; GGUF files are the real small model.
Knows no page.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fakes.byte_tokenizer import VOCAB_SIZE, byte_tokenizer
from kvik.modelfile import embedded_model_path, open_model
from support.adapters import module_sizes, write_adapter

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB_SIZE, "hidden_size": 128,
    "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 64, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "bos_token_id": 262,
    "eos_token_id": 263,
}  # fmt: skip
LLAMA_8B: dict[str, Any] = CONFIG | {
    "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False,
    "bos_token_id": 128000, "eos_token_id": 128001,
}  # fmt: skip
TEMPLATE = "{% for m in messages %}{{ bos_token }}{{ m.role }}:{{ m.content }}{% endfor %}"
REQUEST = {"method": "POST", "url": "/v1/chat/completions"}
BODY = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def build(root: Path) -> None:
    """Everything below `root`, which is also where commands are run."""
    folder = root / "models" / "Llama-3.2-1B-Instruct"
    write_model(folder)
    (root / "models" / "m").symlink_to(folder)
    (root / "models" / "model").symlink_to(folder)
    for name in ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "sha256-of-ollama"):
        (root / "models" / name).symlink_to(embedded_model_path())
    write_adapter(root / "adapter", open_model(str(folder)).spec)
    (root / "config.json").write_text(json.dumps(LLAMA_8B))
    for name in ("batch.jsonl", "requests.jsonl"):
        (root / name).write_text(json.dumps({"custom_id": name, **REQUEST, "body": BODY}) + "\n")
    _write_programs(root / "bin")


def write_model(folder: Path) -> None:
    """A random Llama of two layers, in bf16, whose tokens are bytes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tokenizer_config = {"bos_token": "<|start|>", "eos_token": "<|end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    byte_tokenizer().backend.save(str(folder / "tokenizer.json"))
    generator = torch.Generator().manual_seed(0)
    hidden = CONFIG["hidden_size"]
    sizes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCAB_SIZE, hidden),
        "model.norm.weight": (hidden,),
    }
    for i in range(CONFIG["num_hidden_layers"]):
        norms = ("input_layernorm", "post_attention_layernorm")
        sizes |= {f"model.layers.{i}.{name}.weight": (hidden,) for name in norms}
    sizes |= {f"{name}.weight": size for name, size in module_sizes(open_model(str(folder)).spec).items()}
    tensors = {name: torch.randn(size, generator=generator).mul_(0.05).bfloat16() for name, size in sizes.items()}
    save_file(tensors, folder / "model.safetensors")


def _write_programs(folder: Path) -> None:
    """`python` and `kvik` of this environment. A link to an interpreter would lose its environment; this runs it."""
    folder.mkdir()
    for name, words in (("python", ""), ("kvik", " -m kvik")):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        (folder / name).chmod(0o755)


def environment(root: Path, cache_root: str) -> dict[str, str]:
    """Of the commands: the programs above come first, and kvik is this checkout's."""
    source = Path(__file__).parents[2] / "src"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "KVIK_", "VLLM_"))}
    return inherited | {
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH")))),
        "KVIK_CACHE_ROOT": cache_root,
    }


def has_programs(*names: str) -> bool:
    return all(shutil.which(name) for name in names)
