"""How each matrix is kept in memory, settled before memory is taken: by what was asked, else by what the file holds.

Formats are named as in GGUF, but for q16, what bf16 is computed as, and those of 8-bit floats, which a GPU alone keeps;
elsewhere these become floats as they are read. Knows names of tensors only as strings to compare,
and nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch

from kvik.kernels.linear import FIXED_POINT, FP8_FORMATS, QUANTIZED, takes
from kvik.weights import Checkpoint

FormatOf = Callable[[str, int], str]
"""Name of a matrix, such as "model.layers.0.mlp.up_proj.weight", and its inputs K -> its format in memory."""

FORMATS_OF_QUANTIZATION: Final = {"int8": "q8_0", "int4": "q4_1", "fp8": "fp8"}
"""--quantization: 8 bits and a scale, or 4 bits, a scale and an offset, for each 32 weights; or 8-bit floats with a
scale for each row."""
EMBEDDING_FORMATS_OF_QUANTIZATION: Final = {"int8": "q8_0", "int4": "q8_0"}
"""The same for the embedding and the head, which else stay as floats. Their errors go straight into the logits, so 8
bits are kept there, and more where inputs are rounded coarsely, too."""
_Q5_0_BYTES: Final = 22
EMBEDDINGS: Final = ("model.embed_tokens.weight", "lm_head.weight")
_LOSSLESS: Final = {**{fmt: fmt for fmt in QUANTIZED}, "q5_0": "q8_0"}
"""Stored format -> the format in memory that holds the same values: a code of 5 bits is one of 8, of the same scale."""


def formats_in_memory(
    quantization: str | None,
    checkpoint: Checkpoint | None,
    floats: str,
    *,
    quantize_embedding: bool = False,
    keeps_fp8: bool = False,
) -> FormatOf:
    """`quantization`: "int8", "int4", "fp8", "none" for floats, or None for what the checkpoint has; `floats`: the
    format of what is not quantised, see `float_format`.

    `quantize_embedding`: embedding and head to 8 bits, whatever the checkpoint has. `keeps_fp8`: the device computes
    with 8-bit floats as they are.
    """
    if quantization not in (None, "none"):
        return asked_formats(quantization, floats)
    if checkpoint is None or quantization == "none":
        return lambda _name, _k: floats
    stored = stored_formats(checkpoint.format_of, floats, keeps_fp8=keeps_fp8)
    embedding = asked_formats("int8", floats)
    return lambda name, k: (embedding if quantize_embedding and name in EMBEDDINGS else stored)(name, k)


def float_format(dtype: torch.dtype, *, is_exact: bool = False) -> str:
    """How matrices of floats are kept: fp32 as they are; bf16 as 16-bit fixed point where there are kernels for it.

    `is_exact`: bf16 as it is, whose products are taken in fp32.
    """
    if dtype is torch.float32:
        return "f32"
    return FIXED_POINT if takes(FIXED_POINT, 1) and not is_exact else "bf16"


def asked_formats(quantization: str, floats: str) -> FormatOf:
    """What --quantization asks for; `floats` where the number of inputs is no whole number of blocks."""

    def format_of(name: str, k: int) -> str:
        table = EMBEDDING_FORMATS_OF_QUANTIZATION if name in EMBEDDINGS else FORMATS_OF_QUANTIZATION
        asked = table.get(quantization, floats)
        return asked if takes(asked, k) else floats

    return format_of


def stored_formats(stored_format_of: Callable[[str], str | None], floats: str, *, keeps_fp8: bool = False) -> FormatOf:
    """Each matrix as the checkpoint has it where the kernels can compute with that; the rest in `floats`."""
    fp8 = {fmt: fmt for fmt in FP8_FORMATS} if keeps_fp8 else {}

    def format_of(name: str, k: int) -> str:
        table = _LOSSLESS if name == EMBEDDINGS[0] else _LOSSLESS | fp8  # rows of 8-bit floats are not looked up
        in_memory = table.get(stored_format_of(name) or "")
        return in_memory if in_memory is not None and takes(in_memory, k) else floats

    return format_of


def q8_0_of_q5_0(blocks: torch.Tensor) -> torch.Tensor:
    """Rows of q5_0 blocks uint8 [r, bytes] -> the same values as rows of q8_0 blocks."""
    split = blocks.reshape(-1, _Q5_0_BYTES)
    scale, high_bits, nibbles = split[:, :2], split[:, 2:6], split[:, 6:]
    shifts = torch.arange(8, dtype=torch.uint8, device=blocks.device)
    fifth = (high_bits[:, :, None] >> shifts & 1).flatten(1) << 4
    codes = (torch.cat([nibbles & 15, nibbles >> 4], dim=1) | fifth).view(torch.int8) - 16
    return torch.cat([scale, codes.view(torch.uint8)], dim=1).view(blocks.shape[0], -1)
