"""What of a configuration is for a CPU alone, or for a GPU alone. Knows no machine."""

from __future__ import annotations

from kvik.config.engine import EngineConfig
from kvik.errors import ConfigError


def check_device_kind(config: EngineConfig, kind: str) -> None:
    """`kind`: "cpu" or "cuda". Raises `ConfigError`, which names what would do there."""
    dtype = config.cache.kv_cache_dtype
    if kind == "cpu":
        if config.model.quantization == "fp8":
            raise ConfigError(
                "--quantization fp8 is for a GPU: a CPU has no arithmetic for 8-bit floats. Take --quantization int8, "
                "which is as small, or --device cuda"
            )
        if dtype.startswith("float8"):
            raise ConfigError(
                f"--kv-cache-dtype {name_of(dtype)} is for a GPU: take int8, which is as small on a CPU, or auto, or "
                "--device cuda"
            )
        return
    if dtype == "int8":
        raise ConfigError("--kv-cache-dtype int8 is a format of the CPU's; on a GPU take fp8 or auto, or --device cpu")


def name_of(dtype: str) -> str:
    """Of a dtype of keys and values, as --kv-cache-dtype has it."""
    return {"float8_e4m3fn": "fp8", "float8_e5m2": "fp8_e5m2"}.get(dtype, dtype)
