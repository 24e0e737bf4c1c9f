"""`python -m kvik.kernels.report`: which kernels run on this machine, as JSON, for `kvik collect-env`.

A process of its own: an extension that cannot be loaded, or ends its process, must not end the report with it.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from kvik.kernels import runtime


def facts() -> dict[str, Any]:
    """What computes here. `available` are the instruction sets that KVIK_ISA could name, best first."""
    native = runtime.native
    return {
        "in_use": runtime.isa(),
        "available": [*(native.available_isas() if native is not None else ()), "reference"],
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_cuda": torch.version.cuda,
    }


if __name__ == "__main__":
    print(json.dumps(facts()))
