"""Writes one .safetensors file, tensor after tensor: the header first, for which only sizes must be known.

Knows the format only; see weights/safetensors.py for its reader.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import torch

from kvik.errors import KvikError

_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "BOOL": 1}
_ALIGNMENT: Final = 8
"""Of the data's start, as the format's own writer has it."""


@dataclass(frozen=True)
class OutputTensor:
    """What the header says of a tensor."""

    name: str
    dtype: str
    """As the format spells it: "BF16"."""
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return _BYTES[self.dtype] * prod(self.shape)


def write_safetensors(path: Path, tensors: list[OutputTensor], contents: Iterable[torch.Tensor]) -> int:
    """Write `tensors` with `contents`, uint8 [num_bytes] each, in the same order; returns the bytes of data.

    Raises KvikError where the file cannot be written.
    """
    ends, entries = 0, {}
    for tensor in tensors:
        offsets = [ends, ends + tensor.num_bytes]
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        ends = offsets[1]
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    try:
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for tensor, content in zip(tensors, contents, strict=True):
                assert content.dtype is torch.uint8, f"{tensor.name} comes as {content.dtype}"
                assert content.numel() == tensor.num_bytes, f"{tensor.name} has {content.numel()} bytes"
                file.write(content.contiguous().numpy().data)
    except OSError as error:
        raise KvikError(f"cannot write {path}: {error.strerror}; is there room on the disk?") from error
    return ends
