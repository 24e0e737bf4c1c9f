"""The formats in which a weight can be stored, named as in GGUF, and which sizes they take. Knows no layout."""

from __future__ import annotations

import torch

FLOAT_FORMATS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}
PACKED_FLOATS = ("f32", "bf16")  # with a native kernel; the others stay plain
QUANTIZED = {"q8_0": 32, "q4_0": 32, "q4_1": 32, "q4_k": 256, "q6_k": 256}
"""Quantised formats that are computed without widening -> elements of a block, of which K is a multiple."""

_STORED = (*PACKED_FLOATS, *QUANTIZED)
_NAMES = {dtype: name for name, dtype in FLOAT_FORMATS.items()}


def takes(format: str, k: int) -> bool:
    """Whether a weight of K inputs can be stored and multiplied in this format; bf16 and f32 take any K."""
    return k >= 1 and (format in PACKED_FLOATS or (format in QUANTIZED and k % QUANTIZED[format] == 0))


def format_of(format: str | torch.dtype) -> str:
    """The name of a format or of a float dtype. Raises ValueError for others."""
    name = _NAMES.get(format, str(format)) if isinstance(format, torch.dtype) else format
    if name not in FLOAT_FORMATS and name not in QUANTIZED:
        raise ValueError(
            f"a weight cannot be stored as {name!r}; choose one of {', '.join((*PACKED_FLOATS, *QUANTIZED))}"
        )
    return name


def require_taken(format: str, k: int) -> None:
    """Raises ValueError where a quantised format does not take this K, naming those that do."""
    if format in QUANTIZED and not takes(format, k):
        possible = ", ".join(other for other in _STORED if takes(other, k))
        raise ValueError(
            f"a weight of {k} inputs cannot be stored as {format}, which takes multiples of {QUANTIZED[format]}; "
            f"possible are {possible}"
        )
