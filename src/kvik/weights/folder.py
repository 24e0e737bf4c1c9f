"""The weights of a Hugging Face folder: one .safetensors file, or several with an index. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kvik.errors import ModelFileError
from kvik.modelfile.json_file import read_json_object
from kvik.weights.checkpoint import RawTensor, Shard
from kvik.weights.safetensors import SafetensorsFile

_SINGLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
OFFSETS_FILE: Final = "kvik_offsets.safetensors"
"""Beside the shards that `kvik convert` writes as int4, and not in their index: exact offsets, fp16, where the format
has whole multiples of the scale only. Engines that do not know the file take the nearest of those."""
_TEXT_PREFIXES: Final = {
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
}
"""Where models of text and images keep the text model, and what its tensors are called without the rest."""
_KV_SCALES: Final = {
    ".k_proj.k_scale": ".k_scale", ".k_proj.output_scale": ".k_scale",
    ".v_proj.v_scale": ".v_scale", ".v_proj.output_scale": ".v_scale",
}  # fmt: skip
"""Where some tools write the scales of keys and values in 8-bit floats, and what they are called here."""
_OTHER_PREFIXES: Final = tuple(
    prefix + part for prefix in ("", "model.") for part in ("vision_tower.", "multi_modal_projector.")
)


class SafetensorsShard:
    """One file, and which of its tensors belong to the text model, under which name."""

    def __init__(self, file: SafetensorsFile, names: dict[str, str]) -> None:
        self._file = file
        self._names = names
        self._stored_names = {called: name for name, called in names.items()}

    @property
    def name(self) -> str:
        return self._file.path.name

    @property
    def num_bytes(self) -> int:
        return sum(self._file.infos[name].num_bytes for name in self._names)

    @property
    def formats(self) -> dict[str, str]:
        """Names of the tensors, as they will be called, and how each is stored."""
        return {called: self._file.infos[name].fmt for name, called in self._names.items()}

    def tensors(self, *, read_ahead: bool = True) -> Iterator[RawTensor]:
        return self._file.tensors(self._names, read_ahead=read_ahead)

    def tensor(self, called: str) -> RawTensor:
        return self._file.tensor(self._stored_names[called], called)

    def release(self) -> None:
        self._file.release()


class FolderCheckpoint:
    """See checkpoint.Checkpoint. All files are opened, and their headers checked, at once."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelFileError for a folder without safetensors, a missing shard or tensor, or a broken file."""
        self._shards = [_shard(folder / name, tensors) for name, tensors in _find_files(folder).items()]
        self._shard_of = {name: shard for shard in self._shards for name in shard.formats}
        self._formats = {name: fmt for shard in self._shards for name, fmt in shard.formats.items()}

        self._offsets = SafetensorsFile(folder / OFFSETS_FILE) if (folder / OFFSETS_FILE).is_file() else None

    @property
    def num_bytes(self) -> int:
        return sum(shard.num_bytes for shard in self._shards)

    @property
    def num_shards(self) -> int:
        return len(self._shards)

    def shards(self) -> Iterator[Shard]:
        return iter(self._shards)

    def format_of(self, name: str) -> str | None:
        return self._formats.get(name)

    def tensor(self, name: str) -> RawTensor | None:
        """One tensor, out of order."""
        shard = self._shard_of.get(name)
        return None if shard is None else shard.tensor(name)

    def offsets(self, name: str) -> RawTensor | None:
        """One tensor of OFFSETS_FILE."""
        if self._offsets is None or name not in self._offsets.infos:
            return None
        return self._offsets.tensor(name, name)


def _shard(path: Path, wanted: list[str] | None) -> SafetensorsShard:
    """`wanted`: what the index says is in this file, or None for all that is there."""
    file = SafetensorsFile(path)
    for name in wanted or ():
        if name not in file.infos:
            raise ModelFileError(f"{path} lacks tensor {name!r}, which {_INDEX} says it holds")
    names = list(file.infos) if wanted is None else wanted
    return SafetensorsShard(file, {name: text for name in names if (text := _text_name(name)) is not None})


def _text_name(name: str) -> str | None:
    """The name in a model of text only; None for a tensor of the other parts."""
    if name.startswith(_OTHER_PREFIXES):
        return None
    for suffix, replacement in _KV_SCALES.items():
        if name.endswith(suffix):
            name = name.removesuffix(suffix) + replacement
    for prefix, replacement in _TEXT_PREFIXES.items():
        if name.startswith(prefix):
            return replacement + name[len(prefix) :]
    return name


def _find_files(folder: Path) -> dict[str, list[str] | None]:
    """File names in order, each with the tensors that the index assigns to it (None: no index)."""
    if (folder / _INDEX).is_file():
        return _read_index(folder / _INDEX)
    if (folder / _SINGLE).is_file():
        return {_SINGLE: None}
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(names) == 1:
        return {names[0]: None}
    raise ModelFileError(_no_weights_message(folder, names))


def _read_index(path: Path) -> dict[str, list[str] | None]:
    weight_map: Any = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFileError(f"{path}: field 'weight_map' must be an object of tensor names to file names")
    files: dict[str, list[str] | None] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelFileError(f"{path}: tensor {tensor!r} is in {name!r}; it must be a .safetensors file beside it")
        tensors = files.setdefault(name, [])
        assert tensors is not None
        tensors.append(tensor)
    missing = sorted(name for name in files if not (path.parent / name).is_file())
    if missing:
        raise ModelFileError(f"{path.parent} lacks {len(missing)} of {len(files)} shards: {', '.join(missing)}")
    return dict(sorted(files.items()))


def _no_weights_message(folder: Path, safetensors: list[str]) -> str:
    if safetensors:
        return f"{folder} has {len(safetensors)} .safetensors files but no {_INDEX} that says what is where"
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if not pickles:
        return f"{folder} has no weights: neither {_SINGLE} nor {_INDEX} is there"
    return (
        f"{folder} has its weights in {pickles[0]}, a pickle, which can run code when it is read; "
        "kvik never reads one. Convert it where you trust it, with transformers: "
        "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
    )
