"""How the Triton kernels are launched: settled ahead, per compute capability, in the JSON files of kernels/tuned.

Nothing is tried out at a start or in a step. A file has, per op, a list of rows; a row holds for sizes within its
"up_to", and the first one that does is taken: {"rms_norm": [{"up_to": {"columns": 1024}, "num_warps": 4}, ...]}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

FP8_CAPABILITY = (8, 9)
"""The first whose tensor cores take 8-bit floats, and which converts to e4m3 and back."""
FOLDER = Path(__file__).parent / "tuned"
Row = Mapping[str, Any]


def launch(op: str, **sizes: int) -> dict[str, int]:
    """The settings of `op` for these sizes on the present device: num_warps, num_stages, blocks, as the op's row has.

    Raises KeyError where the files do not know the op or no row takes the sizes: a fault of the files.
    """
    for row in rows_of(capability()).get(op, ()):
        if all(sizes[name] <= most for name, most in row.get("up_to", {}).items()):
            return {name: value for name, value in row.items() if name != "up_to"}
    raise KeyError(f"no row of kernels/tuned for {op} takes {sizes}")


@cache
def rows_of(capability: tuple[int, int]) -> Mapping[str, Sequence[Row]]:
    """The file of this capability, or of the next lower one that has a file, or the lowest."""
    files = sorted(FOLDER.glob("sm_*.json"), key=_capability_of)
    fitting = [file for file in files if _capability_of(file) <= capability]
    rows: Mapping[str, Sequence[Row]] = json.loads((fitting[-1] if fitting else files[0]).read_text())
    return rows


@cache
def capability() -> tuple[int, int]:
    """Of the present GPU; (0, 0) where the interpreter stands in for one."""
    return torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)


def lacks_fp8() -> bool:
    """Whether the present GPU was made before FP8_CAPABILITY."""
    return (0, 0) < capability() < FP8_CAPABILITY


def _capability_of(file: Path) -> tuple[int, int]:
    digits = file.stem.removeprefix("sm_")
    return int(digits[:-1]), int(digits[-1])
