"""Op by op, on transformers' own fp32 activations: with exact products of bf16 weights and the cache in fp16, nothing
else is rounded. Products in 16-bit fixed point, the default, are near.

A rounding of activations to bf16 would put each op a hundred times further off than fp32 sums in another order do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

SUMS_DIFFER = 5e-5
FIXED_POINT = 1e-3
CACHE_IS_ROUNDED = 2e-3

PROMPT = [(31 * i) % 89 + 3 for i in range(60)]
Recorded = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def recorded(reference: Any, tmp_path: Path) -> dict[str, Recorded]:
    """Module name -> input and output [T, features] of one pass of transformers in fp32, on weights that bf16 holds."""
    reference.to(torch.bfloat16).save_pretrained(tmp_path)
    model = type(reference).from_pretrained(tmp_path, dtype=torch.float32)
    records: dict[str, Recorded] = {}

    def record(name: str) -> Any:
        def hook(_module: Any, inputs: Any, output: Any) -> None:
            if inputs and isinstance(output, torch.Tensor):
                records[name] = inputs[0][0], output[0]

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(record(name))
    with torch.no_grad():
        model(torch.tensor([PROMPT]))
    return records


@pytest.mark.parametrize(("fmt", "allowed"), [("bf16", SUMS_DIFFER), ("q16", FIXED_POINT)])
def test_each_op_computes_in_float32(recorded: dict[str, Recorded], driver: Any, fmt: str, allowed: float) -> None:
    paged = driver(torch.bfloat16, lambda _name, _k: fmt)
    batch = paged.batch([(paged.request(PROMPT, 0), len(PROMPT))])
    embedded = difference(paged.model.embedding(batch.token_ids), recorded["model.embed_tokens"][1])
    assert embedded <= (0 if fmt == "bf16" else allowed)
    for index, layer in enumerate(paged.model.layers):
        prefix = f"model.layers.{index}"
        qkv = torch.cat([recorded[f"{prefix}.self_attn.{part}_proj"][1] for part in "qkv"], dim=-1)
        attended, projected = recorded[f"{prefix}.self_attn.o_proj"]
        normed, mlp = recorded[f"{prefix}.mlp"]
        x, x_normed = recorded[f"{prefix}.input_layernorm"]
        assert difference(layer.input_norm(x), x_normed) <= SUMS_DIFFER
        assert difference(layer.qkv_proj(x_normed), qkv) <= allowed
        assert difference(layer.attention(qkv, batch), attended) <= CACHE_IS_ROUNDED
        assert difference(layer.o_proj(attended), projected) <= allowed
        assert difference(layer.mlp(normed), mlp) <= allowed
    hidden = recorded["lm_head"][0]
    logits = paged.model.logits(hidden, torch.arange(len(PROMPT), dtype=torch.int32))
    assert difference(logits, recorded["lm_head"][1]) <= allowed


def difference(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest, as a share of the largest value."""
    assert got.shape == wanted.shape
    assert got.dtype == torch.float32
    return float((got - wanted).abs().max() / wanted.abs().max())
