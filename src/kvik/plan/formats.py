"""In which format each matrix will lie in memory, and how many bytes that takes, without the kernels that do it.

What layers/formats.py and kernels/linear settle with torch at hand is said here in numbers; a test holds the two
together.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Final

Kind = str
"""Of a device: "cpu" or "cuda"."""
FormatOf = Callable[[str, int], str]
"""Name of a matrix, its inputs -> its format in memory."""

_BLOCKS: Final = {"q8_0": (32, 34), "q4_0": (32, 18), "q4_1": (32, 20), "q4_k": (256, 144), "q6_k": (256, 210)}
"""Formats that are computed as they are: elements and bytes of a block in a file."""
_FP8: Final = {"fp8": (0, 1), "fp8_static": (0, 2), "fp8_block": (128, 0), "fp8_weight_only": (0, 1)}
"""8-bit floats, on a GPU only: inputs that share a scale, 0 for all of a row, and scales beside those of groups."""
_FP8_MULTIPLE: Final = 16
_FLOAT_BYTES: Final = {"f32": 4, "bf16": 2, "f16": 2}
_PANEL_ROWS: Final = 16
_LOSSLESS: Final = {**{fmt: fmt for fmt in _BLOCKS}, "q5_0": "q8_0"}
_LINEAR: Final = {"int8": "q8_0", "int4": "q4_1", "fp8": "fp8"}
_EMBEDDING: Final = {"int8": "q8_0", "int4": "q8_0"}
_EMBEDDINGS: Final = ("model.embed_tokens.weight", "lm_head.weight")


def has_native_kernels() -> bool:
    """Whether this installation computes on the CPU with kernels of its own, which keep bf16 as fixed point."""
    return os.environ.get("KVIK_ISA") != "reference" and importlib.util.find_spec("kvik._native") is not None


def float_format(dtype: str, matmul_precision: str, kind: Kind, *, native: bool) -> str:
    """How matrices of floats are kept."""
    if dtype == "float32":
        return "f32"
    return "q16" if kind == "cpu" and native and matmul_precision != "highest" else "bf16"


def formats_in_memory(
    quantization: str | None,
    stored: Callable[[str], str | None] | None,
    floats: str,
    *,
    quantize_embedding: bool,
    keeps_fp8: bool,
) -> FormatOf:
    """`quantization`: "int8", "int4", "fp8", "none", or None for what the checkpoint has, which `stored` tells by name.
    `keeps_fp8`: 8-bit floats stay so; it is for a GPU."""

    def asked(method: str, name: str, k: int) -> str:
        fmt = (_EMBEDDING if name in _EMBEDDINGS else _LINEAR).get(method, floats)
        return fmt if takes(fmt, k) else floats

    def as_stored(name: str, k: int) -> str:
        if quantize_embedding and name in _EMBEDDINGS:
            return asked("int8", name, k)
        table = _LOSSLESS | {fp8: fp8 for fp8 in _FP8} if keeps_fp8 and name != _EMBEDDINGS[0] else _LOSSLESS
        fmt = table.get((stored(name) if stored else None) or "")
        return fmt if fmt is not None and takes(fmt, k) else floats

    if quantization in _LINEAR:
        return lambda name, k: asked(quantization, name, k)
    return (lambda _name, _k: floats) if quantization == "none" else as_stored


def takes(fmt: str, k: int) -> bool:
    """Whether rows of `k` elements are whole blocks of the format."""
    if fmt in _FP8:
        return k % _FP8_MULTIPLE == 0
    return fmt not in _BLOCKS or k % _BLOCKS[fmt][0] == 0


def is_quantized(fmt: str) -> bool:
    return fmt in _BLOCKS


def matrix_bytes(n: int, k: int, fmt: str, *, packed: bool) -> int:
    """Bytes of `n` rows of `k`; `packed`: as the native kernels have them, in panels of 16 rows."""
    if fmt in _FP8:
        group, more = _FP8[fmt]
        scales = (-(-k // group) if group else 0) + more
        return n * -(-(k + 4 * scales) // _FP8_MULTIPLE) * _FP8_MULTIPLE
    if packed:
        return -(-n // _PANEL_ROWS) * _panel_bytes(k, fmt)
    if fmt in _BLOCKS:
        elements, num_bytes = _BLOCKS[fmt]
        return n * (k // elements) * num_bytes
    return n * k * _FLOAT_BYTES[fmt]


def _panel_bytes(k: int, fmt: str) -> int:
    """Scales, then codes; the numbers of csrc/packed*.h."""
    pairs, odd = divmod(k // 32, 2)
    sizes = {
        "f32": k * 64,
        "bf16": -(-k // 2) * 64,
        "q16": 64 + -(-k // 32) * 1024,
        "q8_0": pairs * (64 + 1024) + odd * (64 + 512),
        "q4_0": pairs * (64 + 512) + odd * (64 + 256),
        "q4_1": k // 32 * (64 + 256),
        "q4_k": k // 256 * (64 + 256 + 2048),
        "q6_k": k // 256 * (64 + 256 + 3072),
    }
    return sizes[fmt]
