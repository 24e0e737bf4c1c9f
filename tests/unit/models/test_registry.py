"""build_model and its registry."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kvik.errors import ConfigError, UnsupportedArchitectureError
from kvik.modelfile import SUPPORTED_ARCHITECTURES
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.models import ARCHITECTURES, build_model

SPEC = ModelSpec(
    architecture="LlamaForCausalLM",
    vocab_size=40,
    hidden_size=16,
    intermediate_size=32,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope=RopeSpec(theta=10000.0),
)


def test_every_architecture_that_the_door_lets_in_has_a_model() -> None:
    wrappers = {"Gemma3ForConditionalGeneration"}  # the door makes its text model, Gemma3ForCausalLM, of it
    assert set(ARCHITECTURES) == set(SUPPORTED_ARCHITECTURES) - wrappers


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_builds_every_architecture(architecture: str) -> None:
    model = build_model(replace(SPEC, architecture=architecture), torch.float32)
    assert type(model) is ARCHITECTURES[architecture]


def test_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"MambaForCausalLM.*LlamaForCausalLM"):
        build_model(replace(SPEC, architecture="MambaForCausalLM"), torch.float32)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(ConfigError, match="not float16"):
        build_model(SPEC, torch.float16)


def test_tied_embeddings_take_their_memory_once() -> None:
    untied = build_model(SPEC, torch.bfloat16).weights_bytes
    tied = build_model(replace(SPEC, tie_word_embeddings=True), torch.bfloat16).weights_bytes
    assert untied - tied >= SPEC.vocab_size * SPEC.hidden_size * 2


def test_weights_bytes_counts_every_matrix() -> None:
    h, inner, layers = SPEC.hidden_size, SPEC.intermediate_size, SPEC.num_layers
    per_layer = 2 * h * h + 2 * h * 8 + 3 * h * inner + 2 * h
    plain = 4 * (2 * SPEC.vocab_size * h + h + layers * per_layer)
    assert plain <= build_model(SPEC, torch.float32).weights_bytes <= plain * 1.2  # panels are padded
