"""What all checkpoints look like from here on: named raw tensors, shard by shard. Knows no file format, no model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class FileSpan:
    """Where a tensor's bytes lie, from the start of a file."""

    path: Path
    offset: int


@dataclass(frozen=True)
class RawTensor:
    """A tensor as the file stores it."""

    name: str
    """As Hugging Face names it, such as "model.layers.0.self_attn.q_proj.weight", whatever the file format."""
    shape: tuple[int, ...]
    """In values, rows first."""
    fmt: str
    """How values are stored: "f32", "f16", "bf16", an integer such as "i64", or a block format of GGUF: "q4_k",
    or one of 8-bit floats: "fp8", "fp8_block", ..."""
    data: torch.Tensor
    """uint8 [num_bytes], in most cases a view of the mapped file. Read it, don't write: it may be gone and reread."""
    span: FileSpan | None = None
    """Where the same bytes can be read from; None where they are in no file as they are in `data`."""
    scales: torch.Tensor | None = None
    """Of a format of 8-bit floats, whose `data` are codes: fp32 [rows, scales of a row], on the host."""


class Shard(Protocol):
    """One file of a checkpoint."""

    @property
    def name(self) -> str: ...

    def tensors(self, *, read_ahead: bool = True) -> Iterator[RawTensor]:
        """The tensors in the order in which they lie in the file. A tensor's pages are dropped as the next is asked
        for; its data stays valid (it would be read from the file again).

        `read_ahead`: the system is told to have the file in its cache. False where it is read by its spans."""
        ...

    def release(self) -> None:
        """Drop the pages of this file from the process. What was handed out stays valid."""
        ...


class Checkpoint(Protocol):
    """All weights of a model. Opened and checked, nothing read yet."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors, as stored."""
        ...

    @property
    def num_shards(self) -> int: ...

    def shards(self) -> Iterator[Shard]: ...

    def format_of(self, name: str) -> str | None:
        """The `fmt` that the tensor of this name will have; None where there is none."""
        ...
