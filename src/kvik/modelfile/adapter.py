"""adapter_config.json of a PEFT folder: what a LoRA adapter says of itself, checked against what kvik computes.

Knows no model: which modules there are, and which ranks are allowed, others check. Whatever would change an answer and
is not computed here is refused, never left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kvik.errors import ModelFileError
from kvik.modelfile.fields import Fields
from kvik.modelfile.json_file import read_json_object

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
PICKLE_FILE: Final = "adapter_model.bin"

_REFUSED: Final = {
    "use_dora": "DoRA rescales whole rows of the merged weight",
    "modules_to_save": "it replaces whole modules of the model",
    "lora_bias": "it has biases of its own",
    "fan_in_fan_out": "its matrices are transposed",
    "trainable_token_indices": "it replaces rows of the embedding",
    "layer_replication": "it repeats layers of the model",
    "alora_invocation_tokens": "it is active from some token on only",
    "use_qalora": "QA-LoRA groups the inputs",
    "use_bdlora": "block-diagonal factors are laid out otherwise",
    "arrow_config": "it routes between adapters",
    "target_parameters": "it changes parameters that are no linear layers",
}
"""Fields that must be absent, null, false or empty, and why."""
_CHANGES_BASE: Final = ("pissa", "corda", "olora", "loftq")
"""Values of init_lora_weights: the training began by changing the model's own weights."""
_LITERAL_PATTERN: Final = re.compile(r"\^?[\w.\\]+")


@dataclass(frozen=True)
class AdapterConfig:
    """How an adapter's factors are scaled; the factors themselves are in the weights file."""

    source: str
    """Path of the file, for errors."""
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    use_rslora: bool
    """Scale by alpha / sqrt(rank), not alpha / rank (Kalajdzievski, 2023)."""
    target_modules: tuple[str, ...]
    """Names, or ends of names, of the modules that it changes; empty where the file gives an expression."""

    def rank_of(self, module: str) -> int:
        """The rank that the configuration gives to a module such as "model.layers.0.self_attn.q_proj"."""
        return int(_by_pattern(self.rank_pattern, module, self.rank))

    def scale_of(self, module: str) -> float:
        rank, alpha = self.rank_of(module), _by_pattern(self.alpha_pattern, module, self.alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Raises `ModelFileError`, naming file and field, for what is missing, broken or not computed here."""
    if not (folder / CONFIG_FILE).is_file():
        raise ModelFileError(
            f"there is no LoRA adapter in {folder}: a PEFT folder has {CONFIG_FILE} and {WEIGHTS_FILE}; check the path"
        )
    fields = Fields(read_json_object(folder / CONFIG_FILE), str(folder / CONFIG_FILE))
    _check_kind(fields)
    return AdapterConfig(
        source=fields.source,
        rank=fields.size("r"),
        alpha=_finite(fields, "lora_alpha", fields.read(float, "lora_alpha")),
        rank_pattern=_patterns(fields, "rank_pattern"),
        alpha_pattern=_patterns(fields, "alpha_pattern"),
        use_rslora=fields.read(bool, "use_rslora", False),
        target_modules=_target_modules(fields),
    )


def adapter_weights_file(folder: Path) -> Path:
    """Raises `ModelFileError` where there is none that may be read."""
    path = folder / WEIGHTS_FILE
    if path.is_file():
        return path
    if (folder / PICKLE_FILE).is_file():
        raise ModelFileError(
            f"{folder} has its weights in {PICKLE_FILE}, a pickle, which can run code when it is read; kvik never "
            "reads one. Convert it where you trust it, with peft: load it and call save_pretrained(NEW_FOLDER)"
        )
    raise ModelFileError(f"{folder} has {CONFIG_FILE} but no {WEIGHTS_FILE}: the adapter is not complete")


def _check_kind(fields: Fields) -> None:
    kind = fields.read(str, "peft_type")
    if kind.upper() != "LORA":
        raise fields.error("peft_type", f"is {kind[:80]!r}; kvik serves adapters of type 'LORA'")
    for name, why in _REFUSED.items():
        if fields.values.get(name):
            raise fields.error(name, f"is set, which is not supported: {why}. Train without it, or merge the adapter")
    bias = fields.read(str, "bias", "none")
    if bias != "none":
        raise fields.error("bias", f"is {bias[:80]!r}; only 'none' is supported: the adapter's biases would be lost")
    init = fields.values.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_CHANGES_BASE):
        raise fields.error(
            "init_lora_weights",
            f"is {init[:80]!r}: the adapter fits a changed copy of the model's weights. Save it with peft's "
            "path_initial_model_for_weight_conversion, which makes it fit the model itself",
        )


def _patterns(fields: Fields, name: str) -> dict[str, Any]:
    """Names of modules -> numbers. Expressions are refused: one can be made to take for ever."""
    patterns: dict[str, Any] = fields.read(dict, name, {})
    for pattern in patterns:
        if not _LITERAL_PATTERN.fullmatch(pattern) or re.search(r"\\(?!\.)", pattern):
            raise fields.error(name, f"has {pattern[:80]!r}; only names of modules are supported, not expressions")
        if name == "rank_pattern":
            Fields(patterns, f"{fields.source}: {name}").size(pattern)
        else:
            _finite(fields, name, Fields(patterns, f"{fields.source}: {name}").read(float, pattern))
    return patterns


def _by_pattern(patterns: Mapping[str, float], module: str, default: float) -> float:
    """As in PEFT: the first pattern that is the module's name, or its end from a dot on; "^" is its beginning."""
    for pattern, value in patterns.items():
        name = pattern.replace("\\.", ".")
        if module == name.removeprefix("^") or module.endswith(f".{name}"):
            return value
    return default


def _target_modules(fields: Fields) -> tuple[str, ...]:
    value = fields.values.get("target_modules")
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    if value is None or isinstance(value, str):
        return ()
    raise fields.error("target_modules", "must be a list of names, or an expression")


def _finite(fields: Fields, name: str, value: float) -> float:
    if not math.isfinite(value):
        raise fields.error(name, f"is {value}; it must be a finite number")
    return value
