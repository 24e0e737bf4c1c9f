"""Defaults that requests get from generation_config.json and from --override-generation-config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvik.errors import ConfigError, InvalidRequestError
from kvik.sampling_params import SamplingParams

if TYPE_CHECKING:
    from kvik.config.args import EngineArgs
    from kvik.modelfile import ModelFile

FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}
"""Keys of a generation_config.json that kvik honours -> fields of `SamplingParams`."""


def default_sampling_params_of(args: EngineArgs, model_file: ModelFile) -> dict[str, Any]:
    """`SamplingParams` fields that requests get where they say nothing. Raises `ConfigError`."""
    _check_override(args.override_generation_config)
    chosen = {**_base(args.generation_config, model_file), **args.override_generation_config}
    params = {FIELDS[key]: value for key, value in chosen.items() if key in FIELDS and value is not None}
    _check_values(params)
    return params


def _base(source: str, model_file: ModelFile) -> dict[str, Any]:
    """--generation-config: the model's own, none, or that of another folder."""
    if source == "auto":
        return model_file.generation_config
    if source in ("kvik", "vllm"):
        return {}
    path = Path(source) / "generation_config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(
            f"--generation-config takes auto, kvik, vllm or a folder; cannot read {path}: {e.strerror}"
        ) from None
    except ValueError as e:
        raise ConfigError(f"--generation-config: {path} is no JSON: {e}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--generation-config: {path} must hold a JSON object, got a {type(content).__name__}")
    return content


def _check_override(override: Any) -> None:
    """A model's own file holds keys for other programs; what is given by hand is meant for this one."""
    if not isinstance(override, dict):
        raise ConfigError(f"--override-generation-config takes a JSON object, got {override!r}")
    unknown = sorted(override.keys() - FIELDS.keys())
    if unknown:
        raise ConfigError(
            f"--override-generation-config does not know {', '.join(unknown)}; it takes {', '.join(FIELDS)}"
        )


def _check_values(params: dict[str, Any]) -> None:
    for name, value in params.items():
        integer = name in ("top_k", "max_tokens")
        if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
            kind = "an integer" if integer else "a number"
            raise ConfigError(f"generation config: {name} must be {kind}, got {value!r}")
    try:
        SamplingParams(**params)
    except InvalidRequestError as e:
        raise ConfigError(f"generation config: {e.message}") from None
