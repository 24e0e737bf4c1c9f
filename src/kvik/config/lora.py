"""What was asked about LoRA adapters: how many, how large, and those that are there from the start.

Reads no adapter: `modelfile/adapter.py` does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvik.errors import ConfigError

if TYPE_CHECKING:
    from kvik.config.args import EngineArgs

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
MAX_ADAPTERS = 1024
"""Of a batch or in memory; each takes memory and a row of tables."""


@dataclass(frozen=True)
class LoraConfig:
    """Adapters are on."""

    max_loras: int = 1
    """Different adapters in one step; requests of others wait."""
    max_lora_rank: int = 16
    max_cpu_loras: int = 1
    """Adapters that are kept in memory, at least `max_loras`. The least recently used one makes room."""
    dtype: str = "bfloat16"
    """In which they are kept: "bfloat16", "float16" or "float32"."""


@dataclass(frozen=True)
class LoraModule:
    """One --lora-modules entry."""

    name: str
    path: str
    base_model_name: str | None = None


def lora_config_of(args: EngineArgs, model_dtype: str) -> LoraConfig | None:
    """None where adapters are off. Raises `ConfigError`."""
    if not args.enable_lora:
        return None
    for name in ("max_loras", "max_cpu_loras"):
        value = getattr(args, name)
        flag = f"--{name.replace('_', '-')}"
        _require(value is None or 1 <= value <= MAX_ADAPTERS, f"{flag} takes 1 to {MAX_ADAPTERS}, got {value}")
    _require(
        args.max_lora_rank in RANKS,
        f"--max-lora-rank takes one of {', '.join(map(str, RANKS))}, got {args.max_lora_rank}",
    )
    max_cpu_loras = args.max_cpu_loras or args.max_loras
    _require(
        max_cpu_loras >= args.max_loras,
        f"--max-cpu-loras {max_cpu_loras} is below --max-loras {args.max_loras}: the adapters of a step must be in "
        "memory; raise the former or lower the latter",
    )
    return LoraConfig(
        max_loras=args.max_loras,
        max_lora_rank=args.max_lora_rank,
        max_cpu_loras=max_cpu_loras,
        dtype=model_dtype if args.lora_dtype == "auto" else args.lora_dtype,
    )


def lora_modules_of(entries: Sequence[str]) -> tuple[LoraModule, ...]:
    """The --lora-modules: each name=path, a JSON object {"name", "path", "base_model_name"}, or a list of those.

    Raises `ConfigError` for anything else, and for a name that comes twice.
    """
    modules = tuple(module for entry in entries for module in _modules_of(entry))
    names = [module.name for module in modules]
    for name in names:
        _require(names.count(name) == 1, f"--lora-modules has two adapters of the name {name!r}; give each its own")
    return modules


def _modules_of(entry: str) -> list[LoraModule]:
    if entry.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(entry)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"--lora-modules: {entry[:100]!r} is not usable JSON: {error}") from None
        return [_module_of(part) for part in (value if isinstance(value, list) else [value])]
    name, equals, path = entry.partition("=")
    _require(bool(equals and name and path), f"--lora-modules takes name=path, or JSON objects, got {entry[:100]!r}")
    return [LoraModule(name, path)]


def _module_of(value: Any) -> LoraModule:
    fields = value if isinstance(value, dict) else {}
    base = fields.get("base_model_name")
    sound = all(isinstance(fields.get(name), str) and fields[name] for name in ("name", "path"))
    _require(
        sound and (base is None or isinstance(base, str)) and fields.keys() <= {"name", "path", "base_model_name"},
        f'--lora-modules takes JSON objects such as {{"name": "sql", "path": "adapters/sql"}} (and base_model_name), '
        f"got {str(value)[:200]}",
    )
    return LoraModule(fields["name"], fields["path"], base)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
