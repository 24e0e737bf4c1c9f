"""Schemes of 8-bit floats: the format that keeps each, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from kvik.errors import ModelFileError
from kvik.modelfile.fields import Fields
from kvik.modelfile.quantization import Quantization, read_quantization

FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
BLOCKS = {**FP8, "weight_block_size": [128, 128]}
MODELOPT = {"quant_method": "modelopt", "quant_algo": "FP8", "producer": {"name": "modelopt", "version": "0.29"}}
TOKEN = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
TENSOR = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}
GROUP = {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 128, "dynamic": True}


def read(quantization: dict[str, Any]) -> Quantization | None:
    return read_quantization(Fields({"quantization_config": quantization}, "config.json"))


def compressed(weights: dict[str, Any], inputs: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    whole = {"num_bits": 8, "type": "float", "symmetric": True, **weights}
    group = {"targets": ["Linear"], "weights": whole, "input_activations": inputs, **more.pop("group", {})}
    return {
        "quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": group}, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "fmt"),
    [
        (FP8, "fp8"),
        ({**FP8, "activation_scheme": "static", "weight_block_size": None}, "fp8_static"),
        ({**BLOCKS, "fmt": "e4m3", "modules_to_not_convert": ["lm_head"]}, "fp8_block"),
        (compressed({"strategy": "tensor"}, TENSOR), "fp8_static"),
        (compressed({"strategy": "channel"}, TOKEN, ignore=["lm_head"]), "fp8"),
        (compressed({"strategy": "tensor"}, TOKEN), "fp8"),
        (compressed({"strategy": "channel"}, None, format="naive-quantized"), "fp8_weight_only"),
        (compressed({"strategy": "block", "block_structure": [128, 128]}, GROUP), "fp8_block"),
        (compressed({"strategy": "group", "group_size": 128}, GROUP), "fp8_block"),
        (compressed({"strategy": "channel"}, TOKEN, kv_cache_scheme=TENSOR), "fp8"),
        ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]}, "fp8"),
        ({**MODELOPT, "ignore": ["lm_head"], "kv_cache_scheme": TENSOR}, "fp8_static"),
        ({**MODELOPT, "quant_algo": "FP8_PER_CHANNEL_PER_TOKEN", "kv_cache_quant_algo": None}, "fp8"),
    ],
)
def test_schemes_that_can_be_read(config: dict[str, Any], fmt: str) -> None:
    found = read(config)
    assert found == Quantization(config["quant_method"], 8, 0, symmetric=True, packed=False, fp8=fmt)
    assert found.fmt == fmt


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            {"quant_method": "fbgemm_fp8", "activation_scale_ub": 0.0},
            "'activation_scale_ub' is 0.0; it must be a finite",
        ),
        ({"quant_method": "modelopt"}, "'quant_algo' is missing"),
        (
            {**MODELOPT, "quant_algo": "NVFP4"},
            "'quant_algo' is 'NVFP4'; readable are FP8 and FP8_PER_CHANNEL_PER_TOKEN",
        ),
        (
            {**MODELOPT, "kv_cache_quant_algo": "NVFP4"},
            "'kv_cache_quant_algo' is 'NVFP4'; the scales of FP8 can be used",
        ),
        ({**FP8, "fmt": "e5m2"}, "'fmt' is 'e5m2'; of 8-bit floats e4m3 can be read"),
        ({**FP8, "activation_scheme": "none"}, "'activation_scheme' is 'none'; it must be dynamic or static"),
        ({**BLOCKS, "weight_block_size": [64, 64]}, "'weight_block_size' is [64, 64]; of 8-bit floats"),
        ({**BLOCKS, "activation_scheme": "static"}, "'activation_scheme' is static beside weight_block_size"),
        (compressed({"num_bits": 4}, TOKEN), "float-quantized of 4 bits, float, symmetric; of 8-bit floats e4m3"),
        (compressed({}, TOKEN, format="mxfp8-quantized"), "are mxfp8-quantized of 8 bits"),
        (compressed({"strategy": "tensor"}, {**TENSOR, "dynamic": True}), "inputs by tensor, dynamic True"),
        (compressed({"strategy": "tensor"}, {**TOKEN, "type": "int"}), "inputs by integers or other bits"),
        (compressed({"strategy": "block", "block_structure": [64, 64]}, GROUP), "scales by block, inputs by group"),
        (compressed({"strategy": "block", "block_structure": [128, 128]}, TOKEN), "scales by block, inputs by token"),
        (compressed({"strategy": "group", "group_size": 128}, {**GROUP, "group_size": 64}), "inputs by groups of 64"),
        (compressed({"strategy": "row"}, None), "scales by row, inputs by none"),
        ({**FP8, "kv_cache_scheme": {**TENSOR, "type": "int"}}, "'kv_cache_scheme' is not 8-bit float"),
        ({**FP8, "kv_cache_scheme": {**TENSOR, "strategy": "attn_head"}}, "'kv_cache_scheme' is not 8-bit float"),
    ],
)
def test_the_others_are_refused_with_what_is_possible(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        read(config)
    assert complaint in str(caught.value)
