"""The formats in which a weight can be stored, and which sizes they take. Named as in GGUF, but for q16, which no file
has, and those of 8-bit floats, which fp8_layout.py has. Knows no layout.
"""

from __future__ import annotations

import torch

from kvik.kernels.dequantize import FORMATS as STORED_FORMATS
from kvik.kernels.linear.fp8_layout import FP8_FORMATS, FP8_MULTIPLE
from kvik.kernels.runtime import native

FLOAT_FORMATS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}
PACKED_FLOATS = ("f32", "bf16")  # with a native kernel; the others stay plain
QUANTIZED = {"q8_0": 32, "q4_0": 32, "q4_1": 32, "q4_k": 256, "q6_k": 256}
"""Quantised formats that are computed without widening -> elements of a block, of which K is a multiple."""

FIXED_POINT = "q16"
"""Whole numbers of 15 bits and one scale per row: what 16-bit floats are computed as, by the native kernels only."""

_STORED = (*PACKED_FLOATS, *QUANTIZED, *FP8_FORMATS)
_MULTIPLES = {**QUANTIZED, **dict.fromkeys(FP8_FORMATS, FP8_MULTIPLE)}
_NAMES = {dtype: name for name, dtype in FLOAT_FORMATS.items()}


def takes(format: str, k: int) -> bool:
    """Whether a weight of K inputs can be stored and multiplied in this format; bf16, f32 and q16 take any K."""
    if format == FIXED_POINT:
        return k >= 1 and native is not None
    return k >= 1 and (format in PACKED_FLOATS or (format in _MULTIPLES and k % _MULTIPLES[format] == 0))


def format_of(format: str | torch.dtype) -> str:
    """The name of a format or of a float dtype. Raises ValueError for others."""
    name = _NAMES.get(format, str(format)) if isinstance(format, torch.dtype) else format
    if name not in FLOAT_FORMATS and name not in _MULTIPLES and name != FIXED_POINT:
        raise ValueError(f"a weight cannot be stored as {name!r}; choose one of {', '.join(_STORED)}")
    return name


def code_of(format: str) -> int:
    """The native kernels' number of a format."""
    return 11 if format == FIXED_POINT else STORED_FORMATS[format].code


def require_taken(format: str, k: int) -> None:
    """Raises ValueError where a format does not take this K, naming those that do."""
    if format == FIXED_POINT and not takes(format, k):
        raise ValueError(f"{FIXED_POINT} is a format of the native kernels, which are not built here; take bf16")
    if format in _MULTIPLES and not takes(format, k):
        possible = ", ".join(other for other in _STORED if takes(other, k))
        raise ValueError(
            f"a weight of {k} inputs cannot be stored as {format}, which takes multiples of {_MULTIPLES[format]}; "
            f"possible are {possible}"
        )
