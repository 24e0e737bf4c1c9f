"""A model's files on disk, opened by path: a Hugging Face folder or one .gguf file.

Reads what a model says of itself. Knows no weights (room weights) and no tokens (room text).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kvik.errors import ModelFileError
from kvik.modelfile.architectures import parse_config
from kvik.modelfile.chat_template import read_chat_template
from kvik.modelfile.checks import check_spec
from kvik.modelfile.fields import Fields
from kvik.modelfile.gguf import GgufHeader, is_gguf, read_gguf_header
from kvik.modelfile.gguf_spec import parse_gguf_metadata
from kvik.modelfile.json_file import read_json_object
from kvik.modelfile.quantization import Quantization, read_modelopt, read_quantization
from kvik.modelfile.spec import ModelSpec

_MAX_LISTED_FILES = 8


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint that was found and understood."""

    path: Path
    """The folder, or the .gguf file."""
    format: Literal["hf", "gguf"]
    spec: ModelSpec
    generation_config: dict[str, Any]
    """generation_config.json as it is; empty where there is none, and for GGUF."""
    chat_template: str | None
    raw_config: dict[str, Any]
    """config.json as it is; for GGUF the metadata but its arrays."""
    gguf_header: GgufHeader | None = field(default=None, repr=False, compare=False)
    quantization: Quantization | None = None
    """How a folder's matrices are quantised; None where they are floats, and for GGUF, whose tensors tell."""

    @property
    def quantization_method(self) -> str | None:
        """One of quantization.METHODS, or "gguf"; None where the weights are floats."""
        if self.gguf_header is not None and self.gguf_header.is_quantized:
            return "gguf"
        return None if self.quantization is None else self.quantization.method


def open_model(path: str | Path) -> ModelFile:
    """Read what the model at `path` says of itself.

    Raises ModelFileError (or its UnsupportedArchitectureError) where there is no model, where a field or a size is
    wrong, and where kvik has no implementation, also of the way in which the weights are quantised.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return _open_folder(place)
    if place.is_file():
        return _open_gguf(place)
    raise ModelFileError(
        f"no such model: {path}. Give the path of a Hugging Face folder (with config.json) or of a .gguf file; "
        "kvik downloads nothing"
    )


def open_config(path: str | Path) -> ModelFile:
    """A model of which there is only its config.json, whatever it is called: for planning, not for loading.

    Raises ModelFileError, naming file and field, or UnsupportedArchitectureError.
    """
    place = Path(path).expanduser()
    config = read_json_object(place)
    spec = parse_config(config, str(place))
    quantization = read_quantization(Fields(config, str(place)))
    return ModelFile(place.parent, "hf", spec, {}, None, config, quantization=quantization)


def _open_folder(folder: Path) -> ModelFile:
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ModelFileError(_not_a_model_message(folder))
    config = read_json_object(config_path)
    generation_path = folder / "generation_config.json"
    generation_config = read_json_object(generation_path) if generation_path.is_file() else {}
    spec = parse_config(config, str(config_path))
    spec = _with_generation_eos(spec, Fields(generation_config, str(generation_path)))
    quantization = read_quantization(Fields(config, str(config_path))) or _quantization_beside(folder)
    template = read_chat_template(folder)
    return ModelFile(folder, "hf", spec, generation_config, template, config, quantization=quantization)


def _quantization_beside(folder: Path) -> Quantization | None:
    """As older versions of NVIDIA's Model Optimizer write it: in a file of its own."""
    path = folder / "hf_quant_config.json"
    return read_modelopt(Fields(read_json_object(path), str(path))) if path.is_file() else None


def _open_gguf(path: Path) -> ModelFile:
    if path.suffix != ".gguf" and not is_gguf(path):
        raise ModelFileError(f"{path} is not a .gguf file; give the folder that holds it, with its config.json")
    header = read_gguf_header(path)
    scalars = header.scalars()
    template = Fields(scalars, str(path)).read_nullable(str, "tokenizer.chat_template")
    return ModelFile(path, "gguf", parse_gguf_metadata(header), {}, template, scalars, header)


def _with_generation_eos(spec: ModelSpec, generation: Fields) -> ModelSpec:
    """generation_config.json may name more ids that end an answer; the config's own come first."""
    further = generation.token_ids("eos_token_id")
    spec = replace(spec, eos_token_ids=tuple(dict.fromkeys((*spec.eos_token_ids, *further))))
    check_spec(spec, generation.source)
    return spec


def _not_a_model_message(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    if "adapter_config.json" in names:
        return f"{folder} is an adapter (adapter_config.json), not a model; merge it into its base model first"
    listed = ", ".join(names[:_MAX_LISTED_FILES]) or "nothing"
    if len(names) > _MAX_LISTED_FILES:
        listed += f" and {len(names) - _MAX_LISTED_FILES} more"
    message = f"not a model: {folder} has no config.json (it holds {listed})"
    ggufs = [name for name in names if name.endswith(".gguf")]
    return message + (f"; to serve a GGUF give the file itself: {folder / ggufs[0]}" if ggufs else "")
