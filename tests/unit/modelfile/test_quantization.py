"""quantization_config: what can be read, under each method's own names, and what is said of the rest."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.errors import ModelFileError
from kvik.modelfile.fields import Fields
from kvik.modelfile.quantization import Quantization, read_quantization

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"}
WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}


def read(quantization: Any) -> Quantization | None:
    return read_quantization(Fields({"quantization_config": quantization}, "config.json"))


def compressed(
    weights: dict[str, Any] | None = None, group: dict[str, Any] | None = None, **top: Any
) -> dict[str, Any]:
    group_0 = {"targets": ["Linear"], "weights": {**WEIGHTS, **(weights or {})}, **(group or {})}
    whole = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": group_0}}
    return {**whole, **top}


@pytest.mark.parametrize(
    ("config", "expected", "fmt"),
    [
        (GPTQ, Quantization("gptq", 4, 128, True, zero_point_offset=1), "q4_0"),
        ({**GPTQ, "sym": False, "group_size": -1}, Quantization("gptq", 4, 0, False, zero_point_offset=1), "q4_1"),
        ({**GPTQ, "checkpoint_format": "gptq_v2"}, Quantization("gptq", 4, 128, True), "q4_0"),
        ({**GPTQ, "bits": 8}, Quantization("gptq", 8, 128, True, zero_point_offset=1), "q8_0"),
        (AWQ, Quantization("awq", 4, 64, False), "q4_1"),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 128, "version": "GEMM"},
         Quantization("awq", 4, 128, False), "q4_1"),
        (compressed(), Quantization("compressed-tensors", 4, 32, True), "q4_0"),
        (compressed({"symmetric": False}), Quantization("compressed-tensors", 4, 32, False), "q4_1"),
        (compressed({"strategy": "channel", "group_size": None}), Quantization("compressed-tensors", 4, 0, True),
         "q4_0"),
        (compressed({"num_bits": 8}), Quantization("compressed-tensors", 8, 32, True), "q8_0"),
        (compressed({"num_bits": 8, "strategy": "channel"}, format="int-quantized"),
         Quantization("compressed-tensors", 8, 0, True, packed=False), "q8_0"),
        (compressed({"num_bits": 8}, {"input_activations": {"num_bits": 8, "type": "int", "dynamic": True}}),
         Quantization("compressed-tensors", 8, 32, True), "q8_0"),
    ],
)  # fmt: skip
def test_schemes_that_can_be_read(config: dict[str, Any], expected: Quantization, fmt: str) -> None:
    assert read(config) == expected
    assert expected.fmt == fmt


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            "'quant_method' is 'bitsandbytes': weights quantised so cannot be read; what can be read is",
        ),
        ({}, "'quant_method' is missing"),
        ([], "must be an object"),
        ({**GPTQ, "bits": 3}, "'bits' is 3, symmetric; what can be read is"),
        ({**GPTQ, "bits": 8, "sym": False}, "'bits' is 8, asymmetric"),
        ({**GPTQ, "group_size": 48}, "'group_size' is 48; it must be a multiple of 32"),
        ({**GPTQ, "group_size": -2}, "'group_size' is -2"),
        ({**GPTQ, "checkpoint_format": "marlin"}, "'checkpoint_format' is 'marlin'"),
        ({**GPTQ, "dynamic": {"-:lm_head": {}}}, "'dynamic'"),
        ({**AWQ, "version": "gemv"}, "version 'gemv'"),
        ({**AWQ, "zero_point": False}, "zero_point false"),
        (compressed({"type": "float"}, format="nvfp4-pack-quantized"), "nvfp4-pack-quantized of 4 bits, float"),
        (compressed({"num_bits": 8, "symmetric": False}), "of 8 bits, int, asymmetric"),
        (compressed({"strategy": "block"}), "'strategy' is 'block'"),
        (compressed(group={"input_activations": {"num_bits": 8, "type": "int", "dynamic": False}}),
         "'input_activations' are not int8 with dynamic scales"),
        (compressed(group={"output_activations": {"num_bits": 8}}), "'output_activations' are quantised"),
        (compressed(config_groups={}), "has 0 schemes"),
        (compressed(sparsity_config={"format": "sparse-24-bitmask"}), "'sparsity_config' asks for a sparse format"),
    ],
)  # fmt: skip
def test_the_others_are_refused_with_what_is_possible(config: Any, complaint: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        read(config)
    assert complaint in str(caught.value)


def test_floats_have_none_and_a_text_model_may_have_its_own() -> None:
    assert read_quantization(Fields({}, "config.json")) is None
    nested = {"text_config": {"quantization_config": GPTQ}}
    assert read_quantization(Fields(nested, "config.json")) == read(GPTQ)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from([GPTQ, AWQ, compressed(), WEIGHTS]), st.data())
def test_whatever_a_field_holds_it_is_read_or_refused(config: dict[str, Any], data: st.DataObject) -> None:
    changed = {**config, data.draw(st.sampled_from(sorted(config))): data.draw(JSON)}
    for whole in (changed, compressed(changed)):
        with suppress(ModelFileError):
            assert isinstance(read(whole), Quantization | None)
