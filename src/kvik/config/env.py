"""Environment variables: each is read as KVIK_NAME, and as VLLM_NAME for those who come from there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from kvik.errors import ConfigError

T = TypeVar("T")


def read(name: str, parse: Callable[[str], T], accepted: str, environ: Mapping[str, str] = os.environ) -> T | None:
    """The value of KVIK_`name` or VLLM_`name`, or None where neither is set.

    `accepted` says, for the error message, what `parse` takes. Raises `ConfigError` for a bad value.
    """
    for variable in (f"KVIK_{name}", f"VLLM_{name}"):
        text = environ.get(variable, "").strip()
        if text:
            try:
                return parse(text)
            except ValueError:
                raise ConfigError(f"{variable} takes {accepted}, got {text!r}") from None
    return None


def api_key(environ: Mapping[str, str] = os.environ) -> str | None:
    """A key that requests must bring, where no --api-key is given."""
    return read("API_KEY", str, "a key", environ)


def server_dev_mode(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the server has the routes of docs/development-mode.md (SERVER_DEV_MODE)."""
    return bool(read("SERVER_DEV_MODE", _yes_or_no, "0 or 1", environ))


def shown(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """All variables of ours that are set, by name; secrets as ***."""
    ours = sorted(name for name in environ if name.startswith(("KVIK_", "VLLM_")))
    return {name: "***" if is_secret(name) else environ[name] for name in ours}


def is_secret(name: str) -> bool:
    """Whether a variable of this name is likely to hold what nobody else should read."""
    return any(word in name.upper() for word in ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"))


def cpu_kvcache_bytes(environ: Mapping[str, str] = os.environ) -> int | None:
    """Bytes of the KV cache on a CPU; the variable CPU_KVCACHE_SPACE says it in GiB."""
    gib = read("CPU_KVCACHE_SPACE", _positive, "GiB, a number above 0", environ)
    return None if gib is None else int(gib * 2**30)


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of what may be forgotten (CACHE_ROOT); else kvik's below XDG_CACHE_HOME, or below ~/.cache.

    Raises RuntimeError for a user who has no home.
    """
    asked = read("CACHE_ROOT", Path, "a folder", environ)
    if asked is not None:
        return asked.expanduser()
    xdg = environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache") / "kvik"


def allows_long_max_model_len(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether --max-model-len may exceed what the model was made for (ALLOW_LONG_MAX_MODEL_LEN)."""
    return bool(read("ALLOW_LONG_MAX_MODEL_LEN", _yes_or_no, "0 or 1", environ))


def allows_runtime_lora_updating(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether clients may load and unload adapters over HTTP (ALLOW_RUNTIME_LORA_UPDATING)."""
    return bool(read("ALLOW_RUNTIME_LORA_UPDATING", _yes_or_no, "0 or 1", environ))


def logging_level(environ: Mapping[str, str] = os.environ) -> str | None:
    """Least level that is logged, where no --log-level is given (LOGGING_LEVEL)."""
    return read("LOGGING_LEVEL", _level, "CRITICAL, ERROR, WARNING, INFO, DEBUG or NOTSET", environ)


def log_stats_interval_s(environ: Mapping[str, str] = os.environ) -> float:
    """Seconds between lines of statistics (LOG_STATS_INTERVAL); 10 where unset, 0 or below."""
    interval = read("LOG_STATS_INTERVAL", float, "seconds", environ)
    return interval if interval is not None and interval > 0 else 10.0


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("0", "1", "true", "false"):
        raise ValueError
    return text.lower() in ("1", "true")


def _level(text: str) -> str:
    if text.upper() not in ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET"):
        raise ValueError
    return text.upper()
