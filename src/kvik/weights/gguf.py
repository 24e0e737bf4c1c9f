"""The weights of a GGUF file under Hugging Face's names and in Hugging Face's order of rows.

Values stay quantised. What the conversion to GGUF changed is undone on the raw bytes: rows of q and k of the Llama
architecture are put back, and Gemma's norm weights lose the 1 that was added to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch

from kvik.errors import ModelFileError
from kvik.modelfile.gguf import GgufHeader, GgufTensor
from kvik.modelfile.gguf_names import hf_name
from kvik.modelfile.spec import ModelSpec
from kvik.weights.checkpoint import FileSpan, RawTensor, Shard
from kvik.weights.mapped_file import MappedFile

_PERMUTED: Final = ("LlamaForCausalLM", "MistralForCausalLM")
_FLOATS: Final = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class GgufCheckpoint:
    """See checkpoint.Checkpoint. One file is one shard."""

    def __init__(self, header: GgufHeader, spec: ModelSpec) -> None:
        """Raises ModelFileError for a tensor that has no place in a model of this kind."""
        self._shard = GgufShard(header, spec)

    @property
    def num_bytes(self) -> int:
        return self._shard.num_bytes

    @property
    def num_shards(self) -> int:
        return 1

    def shards(self) -> Iterator[Shard]:
        yield self._shard

    def format_of(self, name: str) -> str | None:
        return self._shard.formats.get(name)


class GgufShard:
    def __init__(self, header: GgufHeader, spec: ModelSpec) -> None:
        self._spec = spec
        source = str(header.path)
        named = [(hf_name(tensor.name, spec.architecture, source), tensor) for tensor in header.tensors.values()]
        self._tensors = sorted(named, key=lambda pair: pair[1].offset)
        self.formats = {name: tensor.type.name for name, tensor in named}
        self._file = MappedFile(header.path)
        self._path = header.path
        self.name = header.path.name
        self.num_bytes = sum(tensor.num_bytes for _, tensor in named)
        if any(tensor.offset + tensor.num_bytes > self._file.size for _, tensor in named):
            raise ModelFileError(f"{header.path} has become shorter since its header was read")

    def tensors(self, *, read_ahead: bool = True) -> Iterator[RawTensor]:
        for name, tensor in self._tensors:
            if read_ahead:
                self._file.read_ahead(tensor.offset + tensor.num_bytes)
            yield self._as_hugging_face(name, tensor)
            self._file.drop(tensor.offset, tensor.num_bytes)

    def release(self) -> None:
        self._file.drop_all()

    def _as_hugging_face(self, name: str, tensor: GgufTensor) -> RawTensor:
        data = self._file.view(tensor.offset, tensor.num_bytes)
        raw = RawTensor(name, tensor.shape, tensor.type.name, data, FileSpan(self._path, tensor.offset))
        if self._spec.architecture in _PERMUTED and ".self_attn.q_proj." in name:
            return _with_split_halves(raw, self._spec.num_heads)
        if self._spec.architecture in _PERMUTED and ".self_attn.k_proj." in name:
            return _with_split_halves(raw, self._spec.num_kv_heads)
        if self._spec.architecture == "Gemma3ForCausalLM" and name.endswith("norm.weight"):
            return _minus_one(raw)
        return raw


def _with_split_halves(raw: RawTensor, num_heads: int) -> RawTensor:
    """Undo GGUF's order of a head's rows, which has the partners of one rotation beside each other.

    Rows are whole blocks, so moving them moves bytes: [heads, head_dim / 2, 2, bytes of a row] becomes
    [heads, 2, head_dim / 2, bytes of a row].
    """
    num_rows = raw.shape[0]
    if num_rows % (2 * num_heads):
        raise ModelFileError(f"tensor {raw.name!r} has {num_rows} rows, which {num_heads} heads cannot share")
    rows = raw.data.view(num_heads, num_rows // num_heads // 2, 2, raw.data.numel() // num_rows)
    return RawTensor(raw.name, raw.shape, raw.fmt, rows.transpose(1, 2).reshape(-1))


def _minus_one(raw: RawTensor) -> RawTensor:
    if raw.fmt not in _FLOATS:
        raise ModelFileError(f"tensor {raw.name!r} is stored as {raw.fmt}; norm weights must be floats")
    values = raw.data.view(_FLOATS[raw.fmt]).to(torch.float32) - 1
    return RawTensor(raw.name, raw.shape, "f32", values.view(torch.uint8))
