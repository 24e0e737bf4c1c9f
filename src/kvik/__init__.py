"""kvik: a server for language models."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

FIRST_LINE_S = time.monotonic()
"""When this process came to kvik's first line; what was before is the interpreter's start."""

if TYPE_CHECKING:
    from kvik.llm import LLM
    from kvik.messages import LoraRequest as LoRARequest
    from kvik.sampling_params import BeamSearchParams, SamplingParams
    from kvik.structured_outputs import StructuredOutputs

    StructuredOutputsParams = StructuredOutputs

__version__ = "0.1.0"

__all__ = [
    "LLM",
    "BeamSearchParams",
    "LoRARequest",
    "SamplingParams",
    "StructuredOutputs",
    "StructuredOutputsParams",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import the offline door only when it is used, so that `import kvik` stays instant."""
    if name == "LLM":
        from kvik.llm import LLM

        return LLM
    if name == "LoRARequest":
        from kvik.messages import LoraRequest

        return LoraRequest
    if name in ("SamplingParams", "BeamSearchParams"):
        from kvik import sampling_params

        return getattr(sampling_params, name)
    if name in ("StructuredOutputs", "StructuredOutputsParams"):
        from kvik.structured_outputs import StructuredOutputs

        return StructuredOutputs
    raise AttributeError(f"module 'kvik' has no attribute {name!r}")
