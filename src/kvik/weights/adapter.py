"""The factors of a LoRA adapter, from a PEFT folder. Knows names and ranks; shapes are the model's to check.

Nothing is left out in silence: a tensor that is no factor of a linear layer's ends the load.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from kvik.errors import ModelFileError
from kvik.modelfile.adapter import AdapterConfig, adapter_weights_file, read_adapter_config
from kvik.weights.checkpoint import RawTensor
from kvik.weights.safetensors import SafetensorsFile

_FACTOR: Final = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_DTYPES: Final = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_TEXT_PREFIXES: Final = (("language_model.model.", "model."), ("model.language_model.", "model."))
"""Where models of text and images keep the text model."""


@dataclass(frozen=True)
class AdapterFactors:
    """What an adapter adds to one linear layer: scale * (x A^T) B^T."""

    a: torch.Tensor  # [rank, K]
    b: torch.Tensor  # [N, rank]
    scale: float


def read_adapter(folder: Path) -> tuple[AdapterConfig, dict[str, AdapterFactors]]:
    """The configuration, and the factors by module: "model.layers.0.self_attn.q_proj".

    The tensors are views of the mapped file. Raises `ModelFileError`.
    """
    config = read_adapter_config(folder)
    file = SafetensorsFile(adapter_weights_file(folder))
    sides = _sides(file)
    if not sides:
        raise ModelFileError(f"{file.path} has no LoRA factors: not one tensor's name ends in lora_A.weight")
    return config, {module: _factors(file, config, module, pair) for module, pair in sides.items()}


def _sides(file: SafetensorsFile) -> dict[str, dict[str, str]]:
    """Module -> side ("A" or "B") -> name of the tensor."""
    sides: dict[str, dict[str, str]] = {}
    for name in file.infos:
        match = _FACTOR.fullmatch(name)
        if match is None:
            raise ModelFileError(f"{file.path}: tensor {name!r} is not supported: {_why_not(name)}")
        pair = sides.setdefault(_text_name(match["module"]), {})
        if match["side"] in pair:
            raise ModelFileError(f"{file.path}: tensors {pair[match['side']]!r} and {name!r} are the same factor")
        pair[match["side"]] = name
    return sides


def _why_not(name: str) -> str:
    if "lora_embedding" in name:
        return "adapters of embeddings are not computed; train without embed_tokens in target_modules"
    if "magnitude" in name:
        return "it belongs to DoRA, which is not computed"
    if name.endswith("bias"):
        return "biases of adapters are not computed; train with bias='none'"
    return (
        "only lora_A.weight and lora_B.weight of linear layers are; a module that was saved whole (modules_to_save) "
        "cannot be used"
    )


def _text_name(module: str) -> str:
    for prefix, replacement in _TEXT_PREFIXES:
        if module.startswith(prefix):
            return replacement + module[len(prefix) :]
    return module


def _factors(file: SafetensorsFile, config: AdapterConfig, module: str, pair: dict[str, str]) -> AdapterFactors:
    if len(pair) == 1:
        (side,) = pair
        raise ModelFileError(f"{file.path}: {module} has lora_{side} but no lora_{'B' if side == 'A' else 'A'}")
    a, b = (_matrix(file, file.tensor(pair[side], module)) for side in "AB")
    rank = config.rank_of(module)
    if a.shape[0] != rank or b.shape[1] != rank:
        raise ModelFileError(
            f"{file.path}: the factors of {module} are {list(a.shape)} and {list(b.shape)}, but {config.source} gives "
            f"it rank {rank}"
        )
    return AdapterFactors(a, b, config.scale_of(module))


def _matrix(file: SafetensorsFile, raw: RawTensor) -> torch.Tensor:
    dtype = _DTYPES.get(raw.fmt)
    if dtype is None or len(raw.shape) != 2 or 0 in raw.shape:
        raise ModelFileError(
            f"{file.path}: a factor of {raw.name} is {raw.fmt} {list(raw.shape)}; it must be a matrix of "
            f"{', '.join(_DTYPES)}"
        )
    return raw.data.view(dtype).view(raw.shape)
