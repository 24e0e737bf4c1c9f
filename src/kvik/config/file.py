"""`--config FILE`: flags from a YAML file. Imported only when there is one, for PyYAML takes its time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from kvik.config.flags import Flag
from kvik.config.parser import Parsed, merged
from kvik.config.values import from_yaml
from kvik.errors import ConfigError


def read_config_file(path: str, flags: Iterable[Flag]) -> dict[str, Any]:
    """The file's values by `Flag.dest`. Keys are flag names, with dashes or underscores.

    Raises `ConfigError` for a file that cannot be read, an unknown key or a bad value.
    """
    if Path(path).suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--config takes a .yaml or .yml file, got {path}")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as e:
        raise ConfigError(f"--config: cannot read {path}: {e.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(f"--config: {path} is no YAML: {e}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--config: {path} must hold lines of the form `flag: value`, got a {type(content).__name__}")
    by_dest = {f.dest: f for f in flags}
    return dict(_read_entry(path, str(key), value, by_dest) for key, value in content.items() if value is not None)


def _read_entry(path: str, key: str, value: Any, by_dest: dict[str, Flag]) -> tuple[str, Any]:
    flag = by_dest.get(key.replace("-", "_"))
    if flag is None or flag.name in ("help", "config"):
        raise ConfigError(f"--config: {path} names an unknown flag {key}; keys are flag names without dashes in front")
    return flag.dest, from_yaml(flag, value)


def under_command_line(file_values: dict[str, Any], parsed: Parsed) -> dict[str, Any]:
    """The file's values with those of the command line over them; dotted keys are laid over a mapping of the file."""
    values = file_values | parsed.values
    for dest in parsed.partial & file_values.keys():
        if isinstance(file_values[dest], dict):
            values[dest] = merged(file_values[dest], parsed.values[dest])
    return values
