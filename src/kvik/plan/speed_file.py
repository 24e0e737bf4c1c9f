"""Where a machine's measured speed is remembered: one small JSON file in the user's cache folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kvik.config.env import cache_root
from kvik.errors import ModelFileError
from kvik.modelfile.json_file import read_json_object
from kvik.plan.speed import MachineSpeed
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

FILE_NAME = "machine-speed.json"


def speed_path() -> Path:
    """In the folder of what may be forgotten. Raises RuntimeError for a user who has no home."""
    return cache_root() / FILE_NAME


def remembered_speed() -> MachineSpeed | None:
    """The last measurement; None where there is none that can be read."""
    try:
        path = speed_path()
    except RuntimeError:
        return None
    if not path.is_file():
        return None
    try:
        values = read_json_object(path)
        return MachineSpeed(
            _rates(values["read_bytes_per_s"]), _rates(values["multiply_adds_per_s"]), str(values["source"])
        )
    except (ModelFileError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s holds no measurement (%s); kvik plan MODEL --measure makes it anew", path, error)
        return None


def remember_speed(speed: MachineSpeed) -> None:
    """A file that cannot be written is a warning."""
    values = {
        "read_bytes_per_s": speed.read_bytes_per_s,
        "multiply_adds_per_s": speed.multiply_adds_per_s,
        "source": speed.source,
    }
    try:
        path = speed_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        new.replace(path)
    except (OSError, RuntimeError) as error:
        logger.warning(
            "the measurement cannot be kept: %s; KVIK_CACHE_ROOT names a folder that can be written to", error
        )


def _rates(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TypeError("rates must be an object")
    rates = {str(fmt): float(rate) for fmt, rate in value.items()}
    if not all(0 < rate < 1e18 for rate in rates.values()):
        raise ValueError("rates must be above 0")
    return rates
