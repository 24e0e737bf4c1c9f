"""Rotary embedding as Hugging Face configs describe it, old style (`rope_theta`, `rope_scaling`) and new
(`rope_parameters`), to a RopeSpec. Precedence follows transformers 5: values inside the object win.
"""

from __future__ import annotations

from typing import Any, Final

from kvik.modelfile.fields import Fields
from kvik.modelfile.spec import Llama3RopeScaling, RopeSpec

SUPPORTED_ROPE_TYPES: Final = ("default", "linear", "llama3")


def read_rope(config: Fields, max_position_embeddings: int) -> RopeSpec:
    """The one rotary embedding of a model whose layers all rotate alike."""
    name = "rope_scaling" if config.values.get("rope_scaling") else "rope_parameters"
    parameters = config.read(dict, name, {})
    if any(isinstance(value, dict) for value in parameters.values()):
        raise config.error(name, "differs by layer type; this architecture has one rotary embedding for all layers")
    theta = config.positive("rope_theta", 10_000.0)
    return parse_rope(config, name, parameters, theta, max_position_embeddings)


def parse_rope(
    config: Fields, name: str, parameters: dict[str, Any], theta: float, max_position_embeddings: int
) -> RopeSpec:
    """`parameters` is what the field `name` holds; `theta` is used when it has no `rope_theta` of its own."""
    rope = Fields(parameters, f"{config.source}: {name}")
    rope_type = rope.read(str, "rope_type", rope.read(str, "type", "default"))
    if rope_type not in SUPPORTED_ROPE_TYPES:
        raise rope.error("rope_type", f"is {rope_type!r}; supported are {', '.join(SUPPORTED_ROPE_TYPES)}")
    for place in (rope, config):
        if place.read(float, "partial_rotary_factor", 1.0) != 1.0:
            raise place.error("partial_rotary_factor", "is not 1; heads must be rotated whole")
    theta = rope.positive("rope_theta", theta)
    if rope_type == "linear":
        return RopeSpec(theta, linear_factor=rope.positive("factor"))
    if rope_type == "llama3":
        return RopeSpec(theta, llama3=_llama3(config, rope, max_position_embeddings))
    return RopeSpec(theta)


def _llama3(config: Fields, rope: Fields, max_position_embeddings: int) -> Llama3RopeScaling:
    inside = rope.size("original_max_position_embeddings", max_position_embeddings)
    scaling = Llama3RopeScaling(
        factor=rope.positive("factor"),
        low_freq_factor=rope.positive("low_freq_factor"),
        high_freq_factor=rope.positive("high_freq_factor"),
        original_max_position_embeddings=config.size("original_max_position_embeddings", inside),
    )
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise rope.error("high_freq_factor", f"must be above low_freq_factor, {scaling.low_freq_factor}")
    return scaling
