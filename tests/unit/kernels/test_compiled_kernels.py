"""What Triton's compiler makes of the kernels for each GPU that has settings of its own: no GPU is needed for that."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SHARED_BYTES = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10}
"""Most of a block (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability")."""


def launched_kernels() -> set[str]:
    """Names of all Triton kernels that a wrapper launches: `name[grid](...)`."""
    names = set()
    for file in (ROOT / "src" / "kvik" / "kernels").glob("*/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
                kernel = node.func.value
                if isinstance(kernel, ast.Name) and kernel.id.startswith("_") and "triton" in file.read_text():
                    names.add(kernel.id)
    return names


@pytest.fixture(scope="module")
def compilations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, subprocess.Popen[str]]]:
    """A process for each GPU, side by side."""
    running, script = {}, ROOT / "tests" / "support" / "compiled_kernels.py"
    paths = {"PYTHONPATH": str(ROOT / "src")}
    for capability in SHARED_BYTES:
        running[capability] = subprocess.Popen(
            [sys.executable, script, str(capability)],
            env=os.environ | paths | {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


@pytest.mark.timeout(400)
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed: it is there for Linux")
@pytest.mark.parametrize("capability", SHARED_BYTES)
def test_kernels_fit_the_gpu(capability: int, compilations: dict[int, subprocess.Popen[str]]) -> None:
    """They compile, keep their numbers in registers, and share no more memory than a block may."""
    out, error = compilations[capability].communicate()
    assert compilations[capability].returncode == 0, error[-3000:]
    kernels = [json.loads(line) for line in out.splitlines()]
    names = {kernel["name"] for kernel in kernels}
    assert names >= (launched_kernels() if capability == 90 else {"_attend", "_quantized_linear", "_fp8_linear"})
    for kernel in kernels:
        assert kernel["spilled_bytes"] == 0, kernel
        assert kernel["shared_bytes"] <= SHARED_BYTES[capability], kernel
