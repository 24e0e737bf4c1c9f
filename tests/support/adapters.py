"""PEFT folders with random factors, written as PEFT writes them, and what they come to when merged into the weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def module_sizes(spec: Any) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of every linear layer of a decoder, by its name. `spec`: a ModelSpec."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    sizes = {
        "self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, q), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }  # fmt: skip
    return {f"model.layers.{i}.{name}": size for i in range(spec.num_layers) for name, size in sizes.items()}


def write_adapter(
    folder: Path,
    spec: Any,
    *,
    rank: int = 8,
    seed: int = 0,
    size: float = 1.0,
    modules: Sequence[str] = MODULES,
    ranks: Mapping[str, int] | None = None,
    tensors: Mapping[str, torch.Tensor | None] | None = None,
    **config: Any,
) -> Path:
    """A folder. `ranks`: by the end of a module's name. `tensors`: put beside the factors, or None to leave one out."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    factors: dict[str, torch.Tensor] = {}
    for module, (n, k) in module_sizes(spec).items():
        if module.rpartition(".")[2] not in modules:
            continue
        r = next((value for end, value in (ranks or {}).items() if module.endswith(f".{end}")), rank)
        name = f"base_model.model.{module}"
        factors[f"{name}.lora_A.weight"] = torch.randn(r, k, generator=generator) / k**0.5
        factors[f"{name}.lora_B.weight"] = torch.randn(n, r, generator=generator) * size / (r * k) ** 0.5
    for name, tensor in (tensors or {}).items():
        if tensor is None:
            del factors[name]
        else:
            factors[name] = tensor
    save_file({name: tensor.contiguous() for name, tensor in factors.items()}, folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none",
             "target_modules": list(modules), "rank_pattern": dict(ranks or {}), **config}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return folder


def merge(state: Mapping[str, torch.Tensor], folder: Path, scale: float = 2.0) -> dict[str, torch.Tensor]:
    """The model's tensors by name, with the adapter of `write_adapter` added: W + scale * B A."""
    from safetensors.torch import load_file

    merged, factors = dict(state), load_file(folder / "adapter_model.safetensors")
    for name, a in factors.items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_A\.weight", name)
        if match is not None:
            b = factors[name.replace("lora_A", "lora_B")]
            weight = merged[f"{match[1]}.weight"]
            merged[f"{match[1]}.weight"] = (weight.double() + scale * b.double() @ a.double()).to(weight.dtype)
    return merged
