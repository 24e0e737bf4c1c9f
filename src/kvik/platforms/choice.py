"""Which device computes, and why: settled once, at the start of an engine, and said in its log.

Knows what the driver and torch say of themselves, not torch itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvik.errors import ConfigError
from kvik.platforms.gpus import Gpu, Gpus

LEAST_CAPABILITY = (8, 0)
"""bf16 in the matrix units: Ampere and later."""


@dataclass(frozen=True)
class TorchFacts:
    """What the installed torch can do."""

    version: str
    cuda: str | None
    """The CUDA that it was built for; None: none."""
    has_triton: bool


@dataclass(frozen=True)
class Choice:
    gpu: Gpu | None
    """The one that computes; None: the CPU does."""
    why: str


def choose(asked: str, found: Gpus, torch: TorchFacts) -> Choice:
    """For --device `asked`: auto, cpu or cuda. Raises `ConfigError` where cuda was asked for and cannot be."""
    if asked == "cpu":
        return Choice(None, "as --device cpu asks")
    obstacle = _obstacle(found, torch)
    if not obstacle:
        return Choice(found.visible[0], "as --device cuda asks" if asked == "cuda" else "it is there")
    if asked == "cuda":
        raise ConfigError(f"--device cuda: {obstacle}. Or let the CPU compute: --device cpu")
    return Choice(None, obstacle)


def _obstacle(found: Gpus, torch: TorchFacts) -> str:
    """Why no GPU can compute; "" where one can."""
    if not found.visible:
        return found.why_none
    gpu = found.visible[0]
    if gpu.capability < LEAST_CAPABILITY:
        major, minor = gpu.capability
        return f"{gpu.name} has compute capability {major}.{minor}, and 8.0 or more is needed"
    if torch.cuda is None:
        return (
            f"torch {torch.version} is built without CUDA; install one that has it: pip install torch "
            "(on Linux the default build has)"
        )
    if not torch.has_triton:
        return "triton is not installed, in which the kernels for GPUs are written: pip install triton"
    return ""


def gpu_lines(found: Gpus) -> list[str]:
    """What there is, a line per GPU that may be used; none where there is no driver."""
    if found.driver is None:
        return []
    return [f"NVIDIA driver {found.driver}, {len(found.visible)} of {found.num_installed} GPU(s) visible"] + [
        str(gpu) for gpu in found.visible
    ]
