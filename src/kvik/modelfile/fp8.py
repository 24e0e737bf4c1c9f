"""`quantization_config` of checkpoints in 8-bit floats (e4m3) -> the name of the format that keeps their matrices.

Knows the fields of quant_method fp8, as transformers and DeepSeek write it, of fbgemm_fp8, of modelopt (NVIDIA's Model
Optimizer), and of the schemes of compressed-tensors; reads no tensor. Which matrices are stored so, the tensors say
themselves: lists such as modules_to_not_convert and ignore only repeat it.
"""

from __future__ import annotations

from typing import Final

from kvik.modelfile.fields import Fields

BLOCK_SIZE: Final = 128
"""Rows, and inputs, of a square with one scale; inputs of a group with one scale."""
POSSIBLE: Final = (
    "of 8-bit floats e4m3 can be read, with a scale for each tensor or row and inputs scaled per token, by a fixed "
    f"input_scale, or not at all; or with a scale for each square of {BLOCK_SIZE} x {BLOCK_SIZE} (or {BLOCK_SIZE} of a "
    f"row) and inputs scaled per {BLOCK_SIZE}"
)


def format_of_fp8(fields: Fields) -> str:
    """Of quant_method fp8. Raises ModelFileError for what cannot be computed."""
    kind = fields.read(str, "fmt", "e4m3")
    if kind not in ("e4m3", "float8_e4m3fn"):
        raise fields.error("fmt", f"is {kind!r}; {POSSIBLE}")
    scheme = fields.read(str, "activation_scheme", "dynamic")
    if scheme not in ("dynamic", "static"):
        raise fields.error("activation_scheme", f"is {scheme!r}; it must be dynamic or static")
    if "weight_block_size" not in fields:
        return "fp8" if scheme == "dynamic" else "fp8_static"
    sizes = fields.read(list, "weight_block_size")
    if sizes != [BLOCK_SIZE, BLOCK_SIZE]:
        raise fields.error("weight_block_size", f"is {str(sizes)[:60]}; {POSSIBLE}")
    if scheme != "dynamic":
        raise fields.error("activation_scheme", f"is static beside weight_block_size; {POSSIBLE}")
    return "fp8_block"


def format_of_fbgemm(fields: Fields) -> str:
    """Of quant_method fbgemm_fp8. Its bound of the inputs, activation_scale_ub, is not kept: nothing is cut off."""
    fields.positive("activation_scale_ub", 1.0)
    return "fp8"


def format_of_modelopt(fields: Fields) -> str:
    """Of quant_method modelopt, in config.json or in hf_quant_config.json. Raises ModelFileError likewise."""
    algorithm = fields.read(str, "quant_algo")
    found = {"FP8": "fp8_static", "FP8_PER_CHANNEL_PER_TOKEN": "fp8"}.get(algorithm.upper())
    if found is None:
        raise fields.error(
            "quant_algo", f"is {algorithm!r}; readable are FP8 and FP8_PER_CHANNEL_PER_TOKEN; {POSSIBLE}"
        )
    of_cache = fields.read_nullable(str, "kv_cache_quant_algo")
    if of_cache not in (None, "FP8"):
        raise fields.error("kv_cache_quant_algo", f"is {of_cache!r}; the scales of FP8 can be used, no others")
    return found


def format_of_compressed(group: Fields, form: str) -> str:
    """Of a config group of compressed-tensors whose weights have type float. Raises ModelFileError likewise."""
    weights = group.nested("weights")
    bits, symmetric = weights.read(int, "num_bits"), weights.read(bool, "symmetric", True)
    if (bits, symmetric) != (8, True) or form not in ("float-quantized", "naive-quantized"):
        kind = "symmetric" if symmetric else "asymmetric"
        raise group.error("weights", f"are {form} of {bits} bits, float, {kind}; {POSSIBLE}")
    strategy = weights.read(str, "strategy", "tensor")
    if strategy in ("tensor", "channel"):
        found = {"none": "fp8_weight_only", "token": "fp8", "tensor": "fp8_static"}.get(_inputs(group))
    else:
        found = "fp8_block" if _has_blocks(weights, strategy) and _inputs(group) == "group" else None
    if found is None:
        raise group.error("weights", f"have scales by {strategy}, inputs by {_inputs(group)}; {POSSIBLE}")
    return found


def check_kv_cache_scheme(fields: Fields) -> None:
    """k_scale and v_scale must be those of 8-bit floats, one of each for a layer."""
    if "kv_cache_scheme" not in fields:
        return
    scheme = fields.nested("kv_cache_scheme")
    found = scheme.read(str, "type", "float"), scheme.read(int, "num_bits", 8), scheme.read(str, "strategy", "tensor")
    if found != ("float", 8, "tensor") or scheme.read(bool, "dynamic", False):
        raise fields.error(
            "kv_cache_scheme", "is not 8-bit float with fixed scales by tensor, the only one whose scales can be used"
        )


def _has_blocks(weights: Fields, strategy: str) -> bool:
    if strategy == "block":
        return weights.read(list, "block_structure") == [BLOCK_SIZE, BLOCK_SIZE]
    return strategy == "group" and weights.size("group_size") == BLOCK_SIZE


def _inputs(group: Fields) -> str:
    """By what inputs are scaled: token, group of BLOCK_SIZE, tensor (fixed), none; else in words what cannot be."""
    if "input_activations" not in group:
        return "none"
    inputs = group.nested("input_activations")
    if (inputs.read(int, "num_bits", 8), inputs.read(str, "type", "int")) != (8, "float"):
        return "integers or other bits"
    strategy, dynamic = inputs.read(str, "strategy", "tensor"), inputs.values.get("dynamic", False)
    if strategy == "group" and inputs.size("group_size") != BLOCK_SIZE:
        return f"groups of {inputs.size('group_size')}"
    expected = {"token": True, "group": True, "tensor": False}.get(strategy)
    return strategy if dynamic is expected else f"{strategy}, dynamic {dynamic}"
