"""What a model's weights will take in memory, by format. Knows a checkpoint by its headers only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from kvik.config.engine import ModelConfig
from kvik.modelfile.spec import ModelSpec
from kvik.plan.formats import FormatOf, Kind, float_format, formats_in_memory, is_quantized, matrix_bytes
from kvik.plan.tensors import MatrixGroup, matrices, num_vector_elements, rotary_elements

_FP32_BYTES = 4
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class StoredWeights:
    """How a checkpoint has its weights, as far as it is known before they are read."""

    format_of: Callable[[str], str | None] | None = None
    """Name of a tensor -> its format in the file; None: floats throughout."""
    method: str | None = None
    """How it is quantised: one of modelfile.quantization.METHODS, or "gguf"; then it cannot be quantised again."""
    quantize_embedding: bool = False
    """Embedding and head become 8 bits as they are read."""
    is_fp8: bool = False
    """Its quantised matrices are 8-bit floats."""


@dataclass(frozen=True)
class WeightsPlan:
    """Bytes of the weights on one device."""

    bytes_by_format: dict[str, int]
    product_bytes_by_format: dict[str, int]
    """Of the matrices that a token is multiplied with: what one step reads."""
    prompt_elements_by_format: dict[str, int]
    """Elements of those of the layers: multiply-adds of one token of a prompt, whose logits nobody asks for."""
    buffer_bytes: int = 0
    """Tables beside the weights that a device counts with them."""

    @property
    def num_bytes(self) -> int:
        return sum(self.bytes_by_format.values()) + self.buffer_bytes


def plan_weights(
    model: ModelConfig, spec: ModelSpec, stored: StoredWeights, kind: Kind, *, native: bool
) -> WeightsPlan:
    """`spec` may be one device's share of `model.spec`.

    On a CPU, matrices lie as the kernels of this installation (`native`: its own) want them, and tables of rotary
    positions are counted as part of the framework. On another device matrices are plain, and the tables, in the
    model's dtype and for all positions that it was made for, are counted with the weights.
    """
    packed = kind == "cpu" and native
    floats = float_format(model.dtype, model.matmul_precision, kind, native=native)
    format_of = formats_in_memory(
        model.quantization, stored.format_of, floats, quantize_embedding=stored.quantize_embedding,
        keeps_fp8=kind != "cpu",
    )  # fmt: skip
    total: dict[str, int] = {}
    read: dict[str, int] = {}
    elements: dict[str, int] = {}
    for group in matrices(spec):
        for fmt, rows in _runs(group, format_of):
            if group.is_table and not is_quantized(fmt):
                plain = "f32" if model.dtype == "float32" else "bf16"
                _add(total, plain, matrix_bytes(rows, group.num_columns, plain, packed=False))
                continue
            num_bytes = matrix_bytes(rows, group.num_columns, fmt, packed=packed)
            _add(total, fmt, num_bytes)
            if not group.is_table:
                _add(read, fmt, num_bytes)
                if any(name.startswith("model.layers.") for name, _ in group.rows_by_name):
                    _add(elements, fmt, rows * group.num_columns)
    _add(total, "f32", num_vector_elements(spec) * _FP32_BYTES)
    positions = spec.max_position_embeddings
    buffers = 0 if kind == "cpu" else rotary_elements(spec, positions) * _DTYPE_BYTES[model.dtype]
    return WeightsPlan(total, read, elements, buffers)


def _runs(group: MatrixGroup, format_of: FormatOf) -> list[tuple[str, int]]:
    """Neighbours of one format lie as one matrix: format and rows."""
    named = [(format_of(name, group.num_columns), rows) for name, rows in group.rows_by_name]
    return [(fmt, sum(rows for _, rows in run)) for fmt, run in groupby(named, key=lambda pair: pair[0])]


def _add(sums: dict[str, int], key: str, number: int) -> None:
    sums[key] = sums.get(key, 0) + number
