"""From what the flags say to a complete `ServerConfig`: key from the environment, template text, and all checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from kvik.config import env
from kvik.config.access import AccessConfig
from kvik.config.admission import AdmissionConfig
from kvik.config.connections import ConnectionConfig
from kvik.config.frontend import ServerConfig
from kvik.config.generation import GenerationDefaults
from kvik.config.limits import RequestLimits
from kvik.config.lora import lora_modules_of
from kvik.config.recovery import RecoveryConfig
from kvik.errors import ConfigError
from kvik.telemetry.prefixes import parse_prefixes


def server_config_of(
    values: Mapping[str, Any],
    defaults: GenerationDefaults = GenerationDefaults(),  # noqa: B008
) -> ServerConfig:
    """Pick the front end's flags out of `Parsed.values` and check them. Raises `ConfigError`."""
    config = ServerConfig(
        **_chosen(ServerConfig, values),
        limits=RequestLimits(**_chosen(RequestLimits, values)),
        recovery=RecoveryConfig(**_chosen(RecoveryConfig, values)),
        access=AccessConfig(**_chosen(AccessConfig, values)),
        connections=ConnectionConfig(**_chosen(ConnectionConfig, values)),
        admission=AdmissionConfig(**_chosen(AdmissionConfig, values)),
    )
    key = env.api_key()
    config = replace(
        config,
        api_key=config.api_key or ((key,) if key is not None else ()),
        dev_mode=env.server_dev_mode(),
        chat_template=_template_text(config.chat_template),
        default_sampling_params=defaults.sampling_params,
        max_tokens_cap=defaults.max_tokens_cap,
    )
    _check_ranges(config)
    _check_combinations(config, with_lora=bool(values.get("enable_lora")))
    _check_files(config)
    _check_buckets(config.custom_histogram_buckets)
    _check_prefixes(config.metrics_prefix)
    return config


def _chosen(config: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: values[f.name] for f in fields(config) if f.name in values}


def _template_text(template: str | None) -> str | None:
    """The content of a file, or the template itself, which no file name can be mistaken for: it has a brace."""
    if template is None or "{" in template:
        return template
    try:
        return Path(template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"--chat-template takes a file, or the template itself, which has braces: cannot read {template}: {e}"
        ) from None


def _check_ranges(config: ServerConfig) -> None:
    _require(0 <= config.port <= 65535, f"--port takes 0 (any free one) to 65535, got {config.port}")
    _require(config.ssl_cert_reqs in (0, 1, 2), f"--ssl-cert-reqs takes 0, 1 or 2, got {config.ssl_cert_reqs}")
    _require(all(config.api_key), "--api-key takes keys that are not empty")
    for name in (
        "sse_keep_alive_interval", "shutdown_timeout", "max_log_len", "max_stored_responses",
        "max_stored_responses_bytes", "stored_responses_max_age", "max_background_responses",
    ):  # fmt: skip
        value = getattr(config, name)
        _require(value is None or value >= 0, f"--{name.replace('_', '-')} takes 0 or more, got {value}")
    for name in ("h11_max_incomplete_event_size", "h11_max_header_count"):
        value = getattr(config, name)
        _require(value >= 1, f"--{name.replace('_', '-')} takes 1 or more, got {value}")
    kwargs = config.default_chat_template_kwargs
    _require(
        kwargs is None or isinstance(kwargs, dict),
        f"--default-chat-template-kwargs takes a JSON object, got {kwargs!r}",
    )


def _check_combinations(config: ServerConfig, *, with_lora: bool) -> None:
    _require(
        with_lora or not config.lora_modules, "--lora-modules needs --enable-lora: add it, or leave the adapters out"
    )
    lora_modules_of(config.lora_modules)
    _require(
        config.has_keys or not config.access.open_paths,
        "--open-paths is about servers with keys: add --api-key or --api-key-file, or leave it out, as all is open",
    )
    _require(
        with_lora or not config.access.allowed_lora_path,
        "--allowed-lora-path needs --enable-lora: add it, or leave the folders out",
    )
    _require(
        config.enable_log_requests or not config.enable_log_outputs,
        "--enable-log-outputs needs --enable-log-requests: add it",
    )
    _require(
        not (config.enable_per_request_metrics and config.disable_log_stats),
        "--enable-per-request-metrics needs the statistics that --disable-log-stats turns off: drop one of them",
    )
    _require(
        config.tool_call_parser is not None or not config.enable_auto_tool_choice,
        "--enable-auto-tool-choice needs a parser for the model's calls: add --tool-call-parser NAME, such as hermes",
    )
    _require(
        (config.fingerprint_mode == "custom") == (config.fingerprint_value is not None),
        "--fingerprint-mode custom and --fingerprint-value go together: give both or neither",
    )
    _require(
        config.ssl_certfile is not None or config.ssl_keyfile is None,
        "--ssl-keyfile needs --ssl-certfile: add the certificate of that key",
    )


def _check_files(config: ServerConfig) -> None:
    for name in ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs"):
        path = getattr(config, name)
        _require(path is None or Path(path).is_file(), f"--{name.replace('_', '-')}: there is no file {path}")


def _check_buckets(buckets: Any) -> None:
    """Upper bounds must be positive, finite and rising; which families there are is for telemetry/buckets.py to say."""
    if buckets is None:
        return
    from kvik.telemetry.buckets import FAMILIES

    _require(isinstance(buckets, dict), f"--custom-histogram-buckets takes a JSON object, got {buckets!r}")
    for family, bounds in buckets.items():
        known = ", ".join(FAMILIES)
        _require(family in FAMILIES, f"--custom-histogram-buckets: there is no family {family}; there are {known}")
        _require(
            isinstance(bounds, list) and _are_bounds(bounds),
            f"--custom-histogram-buckets: {family} takes a list of rising, finite numbers above 0, got {bounds!r}",
        )


def _check_prefixes(prefixes: str) -> None:
    try:
        parse_prefixes(prefixes)
    except ValueError as error:
        raise ConfigError(f"--metrics-prefix: {error}") from None


def _are_bounds(bounds: list[Any]) -> bool:
    numbers = [b for b in bounds if isinstance(b, int | float) and not isinstance(b, bool)]
    rising = all(a < b for a, b in pairwise([0, *numbers]))
    return 0 < len(numbers) == len(bounds) and rising and math.isfinite(numbers[-1])


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
