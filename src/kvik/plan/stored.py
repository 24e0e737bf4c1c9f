"""How a checkpoint has its weights, read from its headers alone, or guessed from its config where no file is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from kvik.errors import ModelFileError
from kvik.modelfile.gguf import read_gguf_header
from kvik.modelfile.gguf_names import hf_name
from kvik.modelfile.json_file import parse_json_object
from kvik.modelfile.model_file import ModelFile
from kvik.modelfile.quantization import Quantization
from kvik.plan.weights import StoredWeights

_CODES: Final = {"gptq": "qweight", "awq": "qweight", "compressed-tensors": "weight_packed"}
_TEXT_PREFIXES: Final = (("language_model.", ""), ("model.language_model.", "model."))
_MAX_HEADER_BYTES: Final = 100_000_000


def stored_weights(model_file: ModelFile | None) -> StoredWeights:
    """None: random weights. Raises `ModelFileError` for a header that cannot be read."""
    if model_file is None:
        return StoredWeights()
    if model_file.format == "gguf":
        return StoredWeights(_gguf_formats(model_file), model_file.quantization_method)
    if model_file.quantization is None:
        return StoredWeights()
    return StoredWeights(
        _quantized_formats(model_file.path, model_file.quantization),
        model_file.quantization_method,
        quantize_embedding=model_file.quantization.embedding_bits == 8,
        is_fp8=model_file.quantization.fp8 is not None,
    )


def _gguf_formats(model_file: ModelFile) -> Callable[[str], str | None]:
    header = model_file.gguf_header or read_gguf_header(model_file.path)
    architecture, source = model_file.spec.architecture, str(model_file.path)
    return {hf_name(name, architecture, source): tensor.type.name for name, tensor in header.tensors.items()}.get


def _quantized_formats(folder: Path, quantization: Quantization) -> Callable[[str], str | None]:
    """Which modules are quantised, by what the shards hold; without shards, all linear layers but the head."""
    codes = _CODES[quantization.method] if quantization.packed else "weight"
    wanted = "I32" if quantization.packed else "I8" if quantization.fp8 is None else "F8_E4M3"
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        return lambda name: quantization.fmt if name.startswith("model.layers.") else None
    modules = set()
    for shard in shards:
        for name, dtype in _names_and_dtypes(shard):
            module, _, part = _text_name(name).rpartition(".")
            if part == codes and dtype == wanted:
                modules.add(module)
    return lambda name: quantization.fmt if name.removesuffix(".weight") in modules else None


def _names_and_dtypes(shard: Path) -> list[tuple[str, str]]:
    try:
        with shard.open("rb") as file:
            num_bytes = int.from_bytes(file.read(8), "little")
            if not 2 <= num_bytes <= _MAX_HEADER_BYTES:
                raise ModelFileError(f"{shard} claims a header of {num_bytes} bytes: not safetensors")
            header = parse_json_object(file.read(num_bytes), f"the header of {shard}")
    except OSError as error:
        raise ModelFileError(f"cannot read {shard}: {error.strerror}") from error
    return [(name, str(entry.get("dtype"))) for name, entry in header.items() if isinstance(entry, dict)]


def _text_name(name: str) -> str:
    for prefix, replacement in _TEXT_PREFIXES:
        if name.startswith(prefix):
            return replacement + name[len(prefix) :]
    return name
