"""Norms, alone and after the residual sum."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kvik.layers.load import load_parameters
from kvik.layers.norm import RMSNorm
from kvik.layers.parameters import ParameterTable


@pytest.mark.parametrize("unit_offset", [False, True])
def test_add_is_sum_then_norm(checkpoint: Any, unit_offset: bool) -> None:
    table = ParameterTable("TestForCausalLM", torch.float32)
    norm = RMSNorm(table, "n", 40, 1e-5, unit_offset=unit_offset)
    weight, x, residual = torch.randn(40), torch.randn(3, 40), torch.randn(3, 40)
    load_parameters(table, checkpoint.add(n__weight=weight))
    total = x + residual
    expected = torch.nn.functional.rms_norm(total, (40,), weight + 1 if unit_offset else weight, 1e-5)
    torch.testing.assert_close(norm(total), expected)
    torch.testing.assert_close(norm.add(x, residual), expected)
    assert torch.equal(residual, total)
