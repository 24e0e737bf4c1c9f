"""Weights without memory, on the CPU: what is compiled of them is what is compiled of real ones."""

from __future__ import annotations

from pathlib import Path

import torch

from kvik.compilation.compiled_pass import CompiledPass
from kvik.compilation.hollow import hollow_weights
from kvik.config.compilation import CompilationConfig
from kvik.models import build_model
from support.tiny_models import LLAMA

CPU = torch.device("cpu")


def test_large_zeros_have_a_shape_and_no_storage() -> None:
    with hollow_weights(CPU, least_bytes=1000):
        weight, norm, table = torch.zeros(64, 64), torch.zeros(64), torch.arange(1000)
    assert (tuple(weight.shape), weight.untyped_storage().nbytes()) == ((64, 64), 0)
    assert norm.sum() == 0
    assert int(table[999]) == 999


def test_they_are_traced_as_real_ones_are(tmp_path: Path) -> None:
    with hollow_weights(CPU, least_bytes=1000):
        model = build_model(LLAMA, torch.float32, format_of=lambda _name, _k: "f32")
    config = CompilationConfig(mode="DYNAMO_TRACE_ONCE", backend="eager", cache_dir=str(tmp_path))
    assert CompiledPass(model, config).compile().num_graphs == 1
