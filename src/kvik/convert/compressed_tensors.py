"""Rows of GGUF blocks -> the tensors of compressed-tensors' "pack-quantized" format, and what config.json says of them.

The inverse of what weights/quantized.py reads: the same codes, scales and offsets, so the same bits come back. Format:
the compressed-tensors project's pack_quantized compressor. Knows no file.
"""

from __future__ import annotations

from typing import Any, Final

import torch

from kvik.convert.safetensors_writer import OutputTensor

BLOCK: Final = 32
FORMATS: Final = {"int8": "q8_0", "int4": "q4_1"}
_BITS: Final = {"q8_0": 8, "q4_1": 4}


def output_tensors(module: str, n: int, k: int, fmt: str) -> list[OutputTensor]:
    """What the layer `module` of [N, K] becomes, in the order of `contents`."""
    tensors = [
        OutputTensor(f"{module}.weight_packed", "I32", (n, k * _BITS[fmt] // 32)),
        OutputTensor(f"{module}.weight_scale", "F16", (n, k // BLOCK)),
        OutputTensor(f"{module}.weight_shape", "I64", (2,)),
    ]
    if fmt == "q4_1":
        tensors.append(OutputTensor(f"{module}.weight_zero_point", "I32", (-(-n // 8), k // BLOCK)))
    return tensors


def contents(blocks: torch.Tensor, n: int, k: int, fmt: str) -> list[torch.Tensor]:
    """The bytes of these tensors from uint8 [N, bytes of a row]."""
    split = blocks.view(n, k // BLOCK, -1)
    scales = split[..., :2].contiguous()
    shape = torch.tensor([n, k]).view(torch.uint8)
    if fmt == "q8_0":
        return _flat((split[..., 2:] ^ 128), scales, shape)
    codes = torch.cat([split[..., 4:] & 15, split[..., 4:] >> 4], dim=2)  # [N, K / 32, 32]
    offsets = split[..., 2:4].contiguous().view(torch.float16).float().squeeze(2)
    return _flat(_nibbles(codes.view(n, k)), scales, shape, _packed_rows(_zero_points(scales, offsets)))


def offsets_tensor(module: str, n: int, k: int) -> OutputTensor:
    """The exact offsets of a q4_1 layer, which the format's whole zero points can only come near to."""
    return OutputTensor(f"{module}.weight_offset", "F16", (n, k // BLOCK))


def offsets_content(blocks: torch.Tensor, n: int, k: int) -> torch.Tensor:
    (flat,) = _flat(blocks.view(n, k // BLOCK, -1)[..., 2:4])
    return flat


def quantization_config(quantization: str, ignored: list[str]) -> dict[str, Any]:
    """`ignored`: the modules that stay floats though they are linear layers."""
    bits = _BITS[FORMATS[quantization]]
    weights = {
        "num_bits": bits, "type": "int", "symmetric": bits == 8, "strategy": "group", "group_size": BLOCK,
        "dynamic": False, "actorder": None, "block_structure": None, "observer": "minmax", "observer_kwargs": {},
    }  # fmt: skip
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "config_groups": {"group_0": group}, "ignore": ignored, "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }  # fmt: skip


def _zero_points(scales: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """[N, G] uint8: the offset is minus the scale, a whole number of times."""
    scale = scales.view(torch.float16).float().squeeze(2)
    return torch.where(scale == 0, 0.0, -offsets / scale).round().clamp(0, 15).to(torch.uint8)


def _packed_rows(zero_points: torch.Tensor) -> torch.Tensor:
    """[N, G] -> [N / 8, G] int32 as bytes: eight rows in a word."""
    padded = torch.nn.functional.pad(zero_points, (0, 0, 0, -zero_points.shape[0] % 8))
    words = _nibbles(padded.t().contiguous()).view(torch.int32)
    return words.t().contiguous().view(torch.uint8)


def _nibbles(codes: torch.Tensor) -> torch.Tensor:
    """[R, C] -> [R, C / 2]: two neighbours in a byte, the first in the low half."""
    return codes[:, ::2] | codes[:, 1::2] << 4


def _flat(*parts: torch.Tensor) -> list[torch.Tensor]:
    return [part.contiguous().view(-1) for part in parts]
