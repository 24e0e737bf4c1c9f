"""What generation_config.json, --generation-config and --override-generation-config say: defaults of requests, a cap
on the length of answers, and tokens that end them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as replace_field

from kvik.errors import ConfigError, InvalidRequestError
from kvik.sampling_params import SamplingParams
from kvik.telemetry.log import get_logger

if TYPE_CHECKING:
    from kvik.config.args import EngineArgs
    from kvik.modelfile import ModelFile
    from kvik.modelfile.spec import ModelSpec

logger = get_logger(__name__)

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
_EOS = "eos_token_id"
_NO_SETTINGS = {_EOS, "bos_token_id", "pad_token_id", "do_sample", "transformers_version", "_from_model_config"}
"""Keys that ask for nothing, or for what is done elsewhere. `do_sample` too: a request says temperature 0."""


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What requests meet that say nothing."""

    sampling_params: dict[str, Any] = field(default_factory=dict)
    """Names of `SamplingParams` -> values."""
    max_tokens_cap: int | None = None
    """The most tokens of any answer: max_new_tokens as an operator gave it. The model's own file only suggests."""

    def within(self, max_model_len: int) -> dict[str, Any]:
        """`sampling_params` that fit a context of so many tokens, which may be less than the model had in mind."""
        most = self.sampling_params.get("max_tokens")
        return self.sampling_params if most is None else self.sampling_params | {"max_tokens": min(most, max_model_len)}


@dataclass(frozen=True, slots=True)
class _Source:
    """One place that says something."""

    name: str
    values: dict[str, Any]
    is_given: bool = True
    """By the operator, who means it; the model's own is for other programs too."""


def generation_defaults_of(args: EngineArgs, model_file: ModelFile) -> GenerationDefaults:
    """Raises `ConfigError`, naming source and key."""
    params: dict[str, Any] = {}
    cap = None
    for source in reversed(_sources(args, model_file.generation_config)):  # the first one has the last word
        for key in FIELDS.keys() & source.values.keys():
            params.pop(FIELDS[key], None)
            value = source.values[key]
            if key == "max_new_tokens":
                cap = value if source.is_given else None
            if value is not None:
                _check(source, key, value)
                params[FIELDS[key]] = value
    return GenerationDefaults(params, cap)


def with_given_eos_ids(spec: ModelSpec, args: EngineArgs) -> ModelSpec:
    """`spec`, its answers also ended by the eos_token_id of a config that was given. Raises `ConfigError`."""
    further = [i for source in _sources(args, {}) for i in _eos_ids(source, spec.vocab_size)]
    return replace(spec, eos_token_ids=tuple(dict.fromkeys((*spec.eos_token_ids, *further))))


def _sources(args: EngineArgs, of_model: dict[str, Any]) -> list[_Source]:
    """Those that count, the first before the others."""
    override = _Source("--override-generation-config", args.override_generation_config)
    _check_override(override.values)
    if args.generation_config == "auto":
        return [override, _Source("the model's generation_config.json", of_model, is_given=False)]
    if args.generation_config in WITHOUT_FOLDER:
        return [override]
    return [override, _read_folder(args.generation_config)]


def _read_folder(folder: str) -> _Source:
    path = Path(folder) / "generation_config.json"
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
    unknown = sorted(content.keys() - FIELDS.keys() - _NO_SETTINGS)
    if unknown:
        logger.info("%s: these keys have no meaning here and are ignored: %s", path, ", ".join(unknown)[:500])
    return _Source(f"--generation-config: {path}", content)


def _check_override(override: Any) -> None:
    """A file may hold keys for other programs; what is given by hand is meant for this one."""
    if not isinstance(override, dict):
        raise ConfigError(f"--override-generation-config takes a JSON object, got {override!r}")
    known = [*FIELDS, _EOS]
    unknown = sorted(override.keys() - set(known))
    if unknown:
        raise ConfigError(
            f"--override-generation-config does not know {', '.join(unknown)}; it takes {', '.join(known)}"
        )


def _check(source: _Source, key: str, value: Any) -> None:
    integer = key in ("top_k", "max_new_tokens")
    if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
        kind = "an integer" if integer else "a number"
        raise ConfigError(f"{source.name}: {key} must be {kind}, got {value!r:.200}")
    try:
        replace_field(SamplingParams(), **{FIELDS[key]: value})
    except InvalidRequestError as e:
        raise ConfigError(f"{source.name}: {e.message.replace(FIELDS[key], key, 1)}") from None


def _eos_ids(source: _Source, vocab_size: int) -> list[int]:
    value = source.values.get(_EOS)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    for token_id in ids:
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < vocab_size:
            raise ConfigError(
                f"{source.name}: {_EOS} must be a token id below {vocab_size}, or a list of them; got {value!r:.200}"
            )
    return ids
