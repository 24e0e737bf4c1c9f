"""Embeddings and heads, apart and tied."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kvik.layers.embedding import Embedding, LMHead
from kvik.layers.load import load_parameters
from kvik.layers.parameters import ParameterTable


def exact(_name: str, _k: int) -> str:
    return "bf16"


IDS = torch.tensor([3, 0, 52, 3], dtype=torch.int32)


@pytest.mark.parametrize("packed", [False, True])
def test_rows_of_a_bf16_matrix_are_scaled_in_float32(checkpoint: Any, packed: bool) -> None:
    """sqrt(3072) = 55.43 would be 55.5 in bf16."""
    table = ParameterTable("TestForCausalLM", torch.bfloat16, format_of=exact)
    embedding = Embedding(table, "e", 53, 32, packed=packed, scale=3072**0.5)
    values = torch.randn(53, 32).bfloat16()
    load_parameters(table, checkpoint.add(e__weight=values))
    assert torch.equal(embedding(IDS), values[IDS.long()].float() * torch.tensor(3072**0.5))


def test_a_tied_head_multiplies_with_the_embedding(checkpoint: Any) -> None:
    table = ParameterTable("TestForCausalLM", torch.float32)
    embedding = Embedding(table, "e", 53, 32, packed=True)
    head = LMHead(table, 53, 32, tied_to=embedding)
    values = torch.randn(53, 32)
    load_parameters(table, checkpoint.add(e__weight=values, lm_head__weight=torch.randn(53, 32)))
    hidden = torch.randn(2, 32)
    torch.testing.assert_close(head(hidden), hidden @ values.T)


def test_a_bf16_head_of_its_own_computes_in_float32(checkpoint: Any) -> None:
    table = ParameterTable("TestForCausalLM", torch.bfloat16, format_of=exact)
    head = LMHead(table, 53, 32)
    values = torch.randn(53, 32).bfloat16()
    load_parameters(table, checkpoint.add(lm_head__weight=values))
    hidden = torch.randn(2, 32)
    torch.testing.assert_close(head(hidden), hidden @ values.float().T, rtol=1e-4, atol=1e-4)


def test_an_unpacked_embedding_cannot_be_tied() -> None:
    table = ParameterTable("TestForCausalLM", torch.float32)
    with pytest.raises(TypeError, match="packed"):
        LMHead(table, 53, 32, tied_to=Embedding(table, "e", 53, 32))
