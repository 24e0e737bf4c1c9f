"""Architectures by the name that a checkpoint gives. To add one: a file here, a line in `ARCHITECTURES`."""

from __future__ import annotations

import torch

from kvik.errors import ConfigError, UnsupportedArchitectureError
from kvik.layers.formats import FormatOf
from kvik.layers.parameters import ParameterTable
from kvik.modelfile.spec import ModelSpec
from kvik.models.base import Model
from kvik.models.gemma3 import Gemma3ForCausalLM
from kvik.models.llama import LlamaForCausalLM
from kvik.models.mistral import MistralForCausalLM
from kvik.models.qwen2 import Qwen2ForCausalLM
from kvik.models.qwen3 import Qwen3ForCausalLM
from kvik.parallel.group import ALONE, Group

__all__ = ["ARCHITECTURES", "Model", "build_model"]

ARCHITECTURES = {
    "Gemma3ForCausalLM": Gemma3ForCausalLM,
    "LlamaForCausalLM": LlamaForCausalLM,
    "MistralForCausalLM": MistralForCausalLM,
    "Qwen2ForCausalLM": Qwen2ForCausalLM,
    "Qwen3ForCausalLM": Qwen3ForCausalLM,
}


def build_model(
    spec: ModelSpec,
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
    *,
    max_positions: int | None = None,
    format_of: FormatOf | None = None,
    compute_dtype: torch.dtype = torch.float32,
    group: Group = ALONE,
) -> Model:
    """The model of `spec`, its memory reserved and its weights still to be loaded.

    `dtype`, bfloat16 or float32, or float16 where that is computed in, is how matrices are stored, and the embedding;
    `compute_dtype`, of activations and of vectors such as norms: fp32 on a CPU, on a GPU as `dtype`. Sums are fp32 on
    either.
    `max_positions` is how many tokens a request may have, prompt and answer together; None is what the model was
    made for. `format_of` tells which matrices are kept in another format than `dtype`; see layers/formats.py.
    `group`: the workers that share the model; this one gets its part.
    Raises `UnsupportedArchitectureError`, or `ConfigError` for another dtype.
    """
    architecture = ARCHITECTURES.get(spec.architecture)
    if architecture is None:
        raise UnsupportedArchitectureError(
            f"architecture {spec.architecture} is not one of those that kvik has: {', '.join(ARCHITECTURES)}"
        )
    if dtype not in (torch.bfloat16, torch.float32, compute_dtype):
        raise ConfigError(f"models run in bfloat16 or float32, not {str(dtype).removeprefix('torch.')}; use --dtype")
    table = ParameterTable(spec.architecture, dtype, device, format_of, compute_dtype, group)
    return architecture(spec, table, max_positions or spec.max_position_embeddings)
