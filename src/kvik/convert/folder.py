"""A folder of float weights -> a folder of compressed-tensors, shard by shard; one tensor is in memory at a time.

Linear layers become integers with a scale for each 32 inputs. The embedding and the head stay as they are, since other
engines want them so; config.json names the format that kvik gives them as it reads them. Knows names of tensors only by
their ends.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch

from kvik.convert.compressed_tensors import (
    FORMATS,
    contents,
    offsets_content,
    offsets_tensor,
    output_tensors,
    quantization_config,
)
from kvik.convert.safetensors_writer import OutputTensor, write_safetensors
from kvik.errors import ConfigError, KvikError
from kvik.kernels import runtime
from kvik.kernels.quantize import quantize
from kvik.modelfile import ModelFile
from kvik.modelfile.quantization import EMBEDDING_BITS
from kvik.platforms import cpu
from kvik.weights import RawTensor, Shard
from kvik.weights.folder import OFFSETS_FILE, FolderCheckpoint

OnShard = Callable[[str, int, int], None]
"""Called as each shard is written: its name, how many are done, how many there are."""

_FLOATS: Final = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_DTYPES: Final = {"f32": "F32", "f16": "F16", "bf16": "BF16", "i64": "I64", "i32": "I32", "i8": "I8", "u8": "U8",
                  "bool": "BOOL"}  # fmt: skip
_PIECE_ELEMENTS: Final = 1 << 22
_WEIGHTS: Final = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".gguf")
_BLOCK: Final = 32


def convert_folder(
    model_file: ModelFile, quantization: str, output: Path, *, force: bool = False, on_shard: OnShard | None = None
) -> int:
    """Write `model_file`, quantised as "int8" or "int4", to the new folder `output`; returns the bytes of its weights.

    The folder appears when it is complete. Raises ConfigError where there is one already (and `force` is not given),
    or where the model is quantised already; KvikError where it cannot be written.
    """
    _check(model_file, quantization, output, force)
    runtime.set_num_threads(cpu.num_cores())
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise KvikError(f"cannot make a folder in {output.parent}: {error.strerror}") from error
    try:
        num_bytes = _write(model_file, quantization, building, on_shard)
        building.chmod(0o755)
        _put_in_place(building, output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return num_bytes


def _check(model_file: ModelFile, quantization: str, output: Path, force: bool) -> None:
    if quantization not in FORMATS:
        raise ConfigError(f"--quantization {quantization}: it takes {' or '.join(FORMATS)}")
    method = model_file.quantization_method
    if model_file.format != "hf" or method is not None:
        stored = f"quantised already ({method})" if method else "a GGUF file"
        raise ConfigError(f"{model_file.path} is {stored}; give the folder of the unquantised model")
    if output.exists() and not force:
        raise ConfigError(f"{output} exists already: choose another --output, or --force to replace it")
    if output.exists() and (not output.is_dir() or output.resolve() == model_file.path.resolve()):
        raise ConfigError(f"{output} cannot be replaced: it is the model itself, or no folder; choose another --output")


def _write(model_file: ModelFile, quantization: str, folder: Path, on_shard: OnShard | None) -> int:
    checkpoint = FolderCheckpoint(model_file.path)
    index: dict[str, str] = {}
    offsets: dict[str, tuple[OutputTensor, torch.Tensor]] = {}
    num_bytes = 0
    for num_done, shard in enumerate(checkpoint.shards(), start=1):
        tensors = [tensor for raw in shard.tensors() for tensor in _described(raw, quantization)]
        num_bytes += write_safetensors(folder / shard.name, tensors, _contents(shard, quantization, offsets))
        shard.release()
        index |= {tensor.name: shard.name for tensor in tensors}
        if on_shard is not None:
            on_shard(shard.name, num_done, checkpoint.num_shards)
    if offsets:
        described = [tensor for tensor, _ in offsets.values()]
        num_bytes += write_safetensors(folder / OFFSETS_FILE, described, (data for _, data in offsets.values()))
    whole = {"metadata": {"total_size": num_bytes}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(whole, indent=2))
    _copy_others(model_file, quantization, folder)
    return num_bytes


def _described(raw: RawTensor, quantization: str) -> list[OutputTensor]:
    if _is_quantised(raw):
        n, k = raw.shape
        return output_tensors(raw.name.removesuffix(".weight"), n, k, FORMATS[quantization])
    return [OutputTensor(raw.name, _DTYPES[raw.fmt], raw.shape)]


def _contents(
    shard: Shard, quantization: str, offsets: dict[str, tuple[OutputTensor, torch.Tensor]]
) -> Iterator[torch.Tensor]:
    """What `_described` announced; `offsets` takes up those of int4, 1/16 of a byte for each weight."""
    fmt = FORMATS[quantization]
    for raw in shard.tensors():
        if not _is_quantised(raw):
            yield raw.data
            continue
        module, (n, k) = raw.name.removesuffix(".weight"), raw.shape
        blocks = _blocks(raw, fmt)
        if fmt == "q4_1":
            offsets[module] = offsets_tensor(module, n, k), offsets_content(blocks, n, k)
        yield from contents(blocks, n, k, fmt)


def _blocks(raw: RawTensor, fmt: str) -> torch.Tensor:
    """uint8 [N, bytes of a row], a piece of the rows at a time."""
    values = raw.data.view(_FLOATS[raw.fmt]).view(raw.shape)
    pieces = torch.split(values, max(1, _PIECE_ELEMENTS // raw.shape[1]))
    return torch.cat([quantize(piece, fmt) for piece in pieces])


def _is_quantised(raw: RawTensor) -> bool:
    """The projections of the layers, where their inputs are whole blocks."""
    return (
        raw.name.endswith("_proj.weight") and len(raw.shape) == 2 and raw.fmt in _FLOATS and not raw.shape[1] % _BLOCK
    )


def _copy_others(model_file: ModelFile, quantization: str, folder: Path) -> None:
    """Tokenizer, template and the rest, and config.json with what was done."""
    for file in sorted(model_file.path.iterdir()):
        if file.is_file() and file.name != "config.json" and not file.name.endswith(_WEIGHTS):
            shutil.copyfile(file, folder / file.name)
    config: dict[str, Any] = dict(model_file.raw_config)
    config["quantization_config"] = quantization_config(quantization, ["lm_head"]) | {EMBEDDING_BITS: 8}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _put_in_place(building: Path, output: Path) -> None:
    """Renames only; the folder that was there before goes last."""
    old = building.with_name(f"{building.name}-replaced")
    try:
        if output.exists():
            os.rename(output, old)
        os.rename(building, output)
    except OSError as error:
        if old.exists() and not output.exists():
            os.rename(old, output)
        raise KvikError(f"cannot put the new folder at {output}: {error.strerror}") from error
    shutil.rmtree(old, ignore_errors=True)
