"""Op by op, on transformers' own activations: each rounds where transformers rounds.

Whole bf16 models cannot be compared so finely: one flipped rounding spreads to all elements within a few layers. Here
each op gets the input that transformers gave to its counterpart. Sums in another order flip a rounding in less than
one element of a hundred; a rounding left out, or one too many, changes ten times that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

SUMS_DIFFER = 0.01
# torch's own attention takes a cubic for exp, off by 1e-4, which flips the rounding of one weight in twenty.
ATTENTION_DIFFERS = 0.12

PROMPT = [(31 * i) % 89 + 3 for i in range(60)]
Recorded = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def recorded(reference: Any, tmp_path: Path) -> dict[str, Recorded]:
    """Module name -> input and output [T, features] of one pass of transformers over `PROMPT` in bf16."""
    model = type(reference).from_pretrained(tmp_path, dtype=torch.bfloat16)
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


def test_each_op_rounds_as_transformers_does(recorded: dict[str, Recorded], driver: Any) -> None:
    paged = driver(torch.bfloat16)
    batch = paged.batch([(paged.request(PROMPT, 0), len(PROMPT))])
    assert torch.equal(paged.model.embedding(batch.token_ids), recorded["model.embed_tokens"][1])
    for index, layer in enumerate(paged.model.layers):
        prefix = f"model.layers.{index}"
        qkv = torch.cat([recorded[f"{prefix}.self_attn.{part}_proj"][1] for part in "qkv"], dim=-1)
        attended, projected = recorded[f"{prefix}.self_attn.o_proj"]
        normed, mlp = recorded[f"{prefix}.mlp"]
        x, x_normed = recorded[f"{prefix}.input_layernorm"]
        assert differing(layer.input_norm(x), x_normed) <= SUMS_DIFFER
        assert differing(layer.qkv_proj(x_normed), qkv) <= SUMS_DIFFER
        assert differing(layer.attention(qkv, batch), attended) <= ATTENTION_DIFFERS
        assert differing(layer.o_proj(attended), projected) <= SUMS_DIFFER
        assert differing(layer.mlp(normed), mlp) <= SUMS_DIFFER
    hidden = recorded["lm_head"][0]
    logits = paged.model.logits(hidden, torch.arange(len(PROMPT), dtype=torch.int32))
    assert differing(logits.bfloat16(), recorded["lm_head"][1]) <= SUMS_DIFFER


def differing(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Share of the elements that are not the same bits."""
    assert got.shape == wanted.shape
    return float((got != wanted).float().mean())
