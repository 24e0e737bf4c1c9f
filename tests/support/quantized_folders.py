"""Writes folders with GPTQ, AWQ and compressed-tensors layers, code by code as the formats define them.

Nothing here is fast or clever: it is what kvik's readers are held against. `values` are computed from the integers in
float64, by each format's own formula.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)
"""Column, among eight, whose code is the i-th of a word."""


@dataclass(frozen=True)
class Layer:
    """A quantised matrix: its tensors by the last part of their names, and the values that they mean, [N, K]."""

    tensors: dict[str, torch.Tensor]
    values: torch.Tensor


def words_of(codes: torch.Tensor, bits: int, order: tuple[int, ...] | None = None) -> torch.Tensor:
    """Codes [R, C] -> int32 [R, C bits / 32], the first code of a word in its lowest bits."""
    each = 32 // bits
    order = order or tuple(range(each))
    words = torch.zeros(codes.shape[0], codes.shape[1] // each, dtype=torch.int64)
    for place, column in enumerate(order):
        words |= codes[:, column::each].long() << (bits * place)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def _integers(n: int, k: int, group: int, bits: int, symmetric: bool, seed: int) -> tuple[torch.Tensor, ...]:
    """Random codes [N, K], zero points [N, G], scales [N, G] fp16."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 1 << bits, (n, k), generator=generator)
    zero_points = torch.randint(1, 1 << bits, (n, k // group), generator=generator)
    if symmetric:
        zero_points.fill_(1 << bits - 1)
    scales = (torch.rand(n, k // group, generator=generator) * 0.02 + 0.001).half()
    return codes, zero_points, scales


def _values(codes: torch.Tensor, zero_points: torch.Tensor, scales: torch.Tensor, group: int) -> torch.Tensor:
    spread = [part.double().repeat_interleave(group, 1) for part in (zero_points, scales)]
    return (codes.double() - spread[0]) * spread[1]


def gptq(n: int, k: int, group: int, *, symmetric: bool, bits: int = 4, offset: int = 1, seed: int = 0) -> Layer:
    codes, zero_points, scales = _integers(n, k, group, bits, symmetric, seed)
    tensors = {
        "qweight": words_of(codes, bits).t().contiguous(),
        "qzeros": words_of((zero_points - offset).t(), bits),
        "scales": scales.t().contiguous(),
        "g_idx": (torch.arange(k) // group).to(torch.int32),
    }
    return Layer(tensors, _values(codes, zero_points, scales, group))


def awq(n: int, k: int, group: int, *, seed: int = 0) -> Layer:
    codes, zero_points, scales = _integers(n, k, group, 4, False, seed)
    tensors = {
        "qweight": words_of(codes.t(), 4, AWQ_COLUMNS),
        "qzeros": words_of(zero_points.t(), 4, AWQ_COLUMNS),
        "scales": scales.t().contiguous(),
    }
    return Layer(tensors, _values(codes, zero_points, scales, group))


def compressed(
    n: int, k: int, group: int, *, symmetric: bool = True, bits: int = 4, packed: bool = True, seed: int = 0
) -> Layer:
    codes, zero_points, scales = _integers(n, k, group, bits, symmetric, seed)
    tensors = {"weight_scale": scales}
    if packed:
        tensors["weight_packed"] = words_of(codes, bits)
        tensors["weight_shape"] = torch.tensor([n, k])
    else:
        tensors["weight"] = (codes - (1 << bits - 1)).to(torch.int8)
    if not symmetric:
        padded = torch.nn.functional.pad(zero_points, (0, 0, 0, -n % 8))
        tensors["weight_zero_point"] = words_of(padded.t(), 4).t().contiguous()
    return Layer(tensors, _values(codes, zero_points, scales, group))


def write_folder(folder: Path, layers: dict[str, Layer], others: dict[str, torch.Tensor] | None = None) -> Path:
    tensors = {f"{name}.{part}": t for name, layer in layers.items() for part, t in layer.tensors.items()}
    save_file({**tensors, **(others or {})}, folder / "model.safetensors")
    return folder


def compressed_config(
    bits: int = 4, group: int = 128, *, symmetric: bool = True, form: str = "pack-quantized", **changes: Any
) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": group}
    group_0 = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group_0},
        "ignore": ["lm_head"], "quantization_status": "compressed", **changes,
    }  # fmt: skip


def write_config(folder: Path, config: dict[str, Any], quantization: dict[str, Any] | None) -> None:
    given = config if quantization is None else {**config, "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(given))
