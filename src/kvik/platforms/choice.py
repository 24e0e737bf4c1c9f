"""Which device computes, and why: said once in the log of a start."""

from __future__ import annotations

from kvik.platforms.gpus import Gpus


def why_cpu(asked: str, found: Gpus) -> str:
    """Why a start with `--device asked` computes on the CPU, for the log."""
    if asked == "cpu":
        return "as --device cpu asks"
    if not found.visible:
        return found.why_none
    return "this version has no CUDA backend yet"


def gpu_lines(found: Gpus) -> list[str]:
    """What there is, a line per GPU that may be used; none where there is no driver."""
    if found.driver is None:
        return []
    return [f"NVIDIA driver {found.driver}, {len(found.visible)} of {found.num_installed} GPU(s) visible"] + [
        str(gpu) for gpu in found.visible
    ]
