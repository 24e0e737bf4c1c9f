"""What generation_config.json, --generation-config and --override-generation-config say: defaults of requests, a cap
on the length of answers, and tokens that end them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvik.errors import ConfigError, InvalidRequestError
from kvik.sampling_params import SamplingParams

if TYPE_CHECKING:
    from kvik.config.args import EngineArgs
    from kvik.modelfile import ModelFile
    from kvik.modelfile.spec import ModelSpec

WITHOUT_FOLDER = ("auto", "kvik", "vllm")
"""Values of --generation-config that name no folder."""
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


def max_tokens_cap_of(args: EngineArgs) -> int | None:
    """The most tokens of any answer: what an operator gives as max_new_tokens. The model's own file only suggests.

    To be asked after `default_sampling_params_of`, which checks the values.
    """
    given = args.override_generation_config.get("max_new_tokens")
    if given is None and args.generation_config not in WITHOUT_FOLDER:
        given = _read_folder(args.generation_config).get("max_new_tokens")
    return given


def with_given_eos_ids(spec: ModelSpec, args: EngineArgs) -> ModelSpec:
    """`spec`, its answers also ended by the eos_token_id of a config that was given. Raises `ConfigError`."""
    override = args.override_generation_config
    sources = [("--override-generation-config", override if isinstance(override, dict) else {})]
    if args.generation_config not in WITHOUT_FOLDER:
        sources.append((f"--generation-config {args.generation_config}", _read_folder(args.generation_config)))
    further = [i for source, config in sources for i in _eos_ids(config.get("eos_token_id"), spec.vocab_size, source)]
    return replace(spec, eos_token_ids=tuple(dict.fromkeys((*spec.eos_token_ids, *further))))


def _eos_ids(value: Any, vocab_size: int, source: str) -> list[int]:
    ids = [] if value is None else value if isinstance(value, list) else [value]
    for token_id in ids:
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < vocab_size:
            raise ConfigError(
                f"{source}: eos_token_id must be a token id below {vocab_size}, or a list of them; got {value!r:.200}"
            )
    return ids


def _base(source: str, model_file: ModelFile) -> dict[str, Any]:
    """--generation-config: the model's own, none, or that of another folder."""
    if source == "auto":
        return model_file.generation_config
    return {} if source in WITHOUT_FOLDER else _read_folder(source)


def _read_folder(source: str) -> dict[str, Any]:
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
    known = [*FIELDS, "eos_token_id"]
    unknown = sorted(override.keys() - set(known))
    if unknown:
        raise ConfigError(
            f"--override-generation-config does not know {', '.join(unknown)}; it takes {', '.join(known)}"
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
