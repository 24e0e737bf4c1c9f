"""`quantization_config` of a config.json -> Quantization: how a checkpoint stores its linear layers, as integers or as
8-bit floats.

Knows what each method's fields mean and which of them can be computed here; reads no tensor. Formats:
GPTQ as AutoGPTQ and GPTQModel write it, AWQ as AutoAWQ does, compressed-tensors as LLM Compressor does; those of 8-bit
floats are in fp8.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kvik.errors import ModelFileError
from kvik.modelfile.fields import Fields
from kvik.modelfile.fp8 import (
    check_kv_cache_scheme,
    format_of_compressed,
    format_of_fbgemm,
    format_of_fp8,
    format_of_modelopt,
)

METHODS: Final = ("gptq", "awq", "compressed-tensors", "fp8", "fbgemm_fp8", "modelopt")
POSSIBLE: Final = (
    "what can be read is: gptq with 4 or 8 bits; awq with 4 bits (gemm); compressed-tensors pack-quantized with 4 or 8 "
    "bits, int-quantized and float-quantized with 8; fp8, fbgemm_fp8 and modelopt in FP8; GGUF files; and unquantised "
    "checkpoints, also with --quantization int8, int4 or fp8"
)
EMBEDDING_BITS: Final = "kvik_embedding_bits"
"""Field that `kvik convert` adds to quantization_config: 8, where embedding and head are to be quantised as they are
read, though the folder has them as floats, for the engines that want them so."""
_BLOCK: Final = 32
"""Values that share a scale in memory; a group in the file must be whole blocks."""


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint's quantised matrices are stored. One scheme for all of them."""

    method: str
    """One of METHODS."""
    bits: int
    """4 or 8."""
    group_size: int
    """Inputs that share a scale; 0: all inputs of an output."""
    symmetric: bool
    """No zero points: codes are centred."""
    packed: bool = True
    """Codes lie in int32 words; else in one int8 each."""
    zero_point_offset: int = 0
    """What is to be added to stored zero points: 1 in GPTQ's first format."""
    fp8: str | None = None
    """Of 8-bit floats: the format in memory that keeps them as they are, one of kernels/linear's FP8_FORMATS."""
    embedding_bits: int | None = None
    """8: embedding and head, stored as floats, are quantised as they are read."""

    @property
    def fmt(self) -> str:
        """The block format of GGUF that holds these values, scale (and offset) for each 32 of them, or that of 8-bit
        floats."""
        if self.fp8 is not None:
            return self.fp8
        if self.bits == 8:
            return "q8_0"
        return "q4_0" if self.symmetric else "q4_1"


def read_quantization(config: Fields) -> Quantization | None:
    """The scheme that config.json tells of; None for an unquantised checkpoint.

    Raises ModelFileError, saying what is possible, for a method or a variant that cannot be computed here.
    """
    holder = config
    if "quantization_config" not in config and "text_config" in config:
        holder = config.nested("text_config")
    if "quantization_config" not in holder:
        return None
    fields = holder.nested("quantization_config")
    method = fields.read(str, "quant_method")
    if method not in _READERS:
        raise fields.error("quant_method", f"is {method!r}: weights quantised so cannot be read; {POSSIBLE}")
    check_kv_cache_scheme(fields)
    quantization = _READERS[method](fields)
    if quantization.group_size % _BLOCK:
        raise fields.error(
            "group_size", f"is {quantization.group_size}; it must be a multiple of {_BLOCK}, or -1; {POSSIBLE}"
        )
    return quantization


def read_modelopt(beside: Fields) -> Quantization | None:
    """The scheme that a hf_quant_config.json tells of, where config.json does not; None: of none. Raises likewise."""
    fields = beside.nested("quantization")
    if fields.read_nullable(str, "quant_algo") is None:
        return None
    return _READERS["modelopt"](fields)


def _gptq(fields: Fields) -> Quantization:
    bits, symmetric = fields.read(int, "bits"), fields.read(bool, "sym", True)
    if bits not in (4, 8) or (bits == 8 and not symmetric):
        raise fields.error("bits", f"is {bits}, {_kind(symmetric)}; {POSSIBLE}")
    if fields.read(dict, "dynamic", {}):
        raise fields.error("dynamic", "gives modules schemes of their own; one scheme for all can be read")
    version = fields.read(str, "checkpoint_format", "gptq")
    if version not in ("gptq", "gptq_v2"):
        raise fields.error("checkpoint_format", f"is {version!r}; readable are gptq and gptq_v2")
    offset = 1 if version == "gptq" else 0
    return Quantization("gptq", bits, _group_size(fields), symmetric, zero_point_offset=offset)


def _awq(fields: Fields) -> Quantization:
    bits = fields.read(int, "bits" if "bits" in fields else "w_bit")
    version = fields.read(str, "version", "gemm").lower()
    if bits != 4 or version != "gemm" or not fields.read(bool, "zero_point", True):
        raise ModelFileError(
            f"{fields.source}: awq with {bits} bits, version {version!r}, "
            f"zero_point {str(fields.read(bool, 'zero_point', True)).lower()} cannot be read; {POSSIBLE}"
        )
    return Quantization("awq", 4, _group_size(fields, "q_group_size"), symmetric=False)


def _fp8(method: str, format_of: Callable[[Fields], str]) -> Callable[[Fields], Quantization]:
    return lambda fields: Quantization(method, 8, 0, symmetric=True, packed=False, fp8=format_of(fields))


def _compressed_tensors(fields: Fields) -> Quantization:
    if fields.read(dict, "sparsity_config", {}).get("format", "dense") != "dense":
        raise fields.error("sparsity_config", f"asks for a sparse format; {POSSIBLE}")
    groups = fields.read(dict, "config_groups")
    found = {_compressed_group(fields, name) for name in groups}
    if len(found) != 1:
        raise fields.error("config_groups", f"has {len(found)} schemes; a checkpoint with one can be read")
    return found.pop()


def _compressed_group(fields: Fields, name: str) -> Quantization:
    group = Fields(fields.read(dict, "config_groups"), f"{fields.source}: config_groups").nested(name)
    weights = group.nested("weights")
    if weights.read(str, "type", "int") == "float":
        form = group.read(str, "format", fields.read(str, "format", "float-quantized"))
        fp8 = format_of_compressed(group, form)
        return Quantization("compressed-tensors", 8, 0, symmetric=True, packed=False, fp8=fp8)
    _check_activations(group)
    bits, symmetric = weights.read(int, "num_bits"), weights.read(bool, "symmetric", True)
    form = group.read(str, "format", fields.read(str, "format", "pack-quantized"))
    possible = (form == "pack-quantized" and (bits == 4 or (bits == 8 and symmetric))) or (
        form == "int-quantized" and bits == 8 and symmetric
    )
    if weights.read(str, "type", "int") != "int" or not possible:
        kind = weights.read(str, "type", "int")
        raise group.error("weights", f"are {form} of {bits} bits, {kind}, {_kind(symmetric)}; {POSSIBLE}")
    strategy = weights.read(str, "strategy", "group" if "group_size" in weights else "channel")
    if strategy not in ("group", "channel", "tensor"):
        raise weights.error("strategy", f"is {strategy!r}; readable are group, channel and tensor")
    group_size = weights.size("group_size") if strategy == "group" else 0
    embedding_bits = fields.read_nullable(int, EMBEDDING_BITS)
    if embedding_bits not in (None, 8):
        raise fields.error(EMBEDDING_BITS, f"is {embedding_bits}; it must be 8, or be left out")
    packed = form == "pack-quantized"
    return Quantization("compressed-tensors", bits, group_size, symmetric, packed=packed, embedding_bits=embedding_bits)


def _check_activations(group: Fields) -> None:
    """Activations may be floats, or int8 with scales found at run time, which is how they are computed in any case."""
    if "input_activations" in group:
        inputs = group.nested("input_activations")
        form: tuple[Any, ...] = (inputs.read(int, "num_bits", 8), inputs.read(str, "type", "int"))
        if form != (8, "int") or not inputs.values.get("dynamic"):
            raise group.error("input_activations", f"are not int8 with dynamic scales; {POSSIBLE}")
    if "output_activations" in group:
        raise group.error("output_activations", f"are quantised; {POSSIBLE}")


def _group_size(fields: Fields, other_name: str = "group_size") -> int:
    """Inputs per scale; 0 for the format's -1."""
    name = "group_size" if "group_size" in fields else other_name
    size = fields.read(int, name)
    if size != -1 and not 0 < size < 2**31:
        raise fields.error(name, f"is {size}; it must be a multiple of {_BLOCK}, or -1")
    return max(size, 0)


def _kind(symmetric: bool) -> str:
    return "symmetric" if symmetric else "asymmetric"


_READERS: Final[dict[str, Callable[[Fields], Quantization]]] = {
    "gptq": _gptq,
    "awq": _awq,
    "compressed-tensors": _compressed_tensors,
    "fp8": _fp8("fp8", format_of_fp8),
    "fbgemm_fp8": _fp8("fbgemm_fp8", format_of_fbgemm),
    "modelopt": _fp8("modelopt", format_of_modelopt),
}
