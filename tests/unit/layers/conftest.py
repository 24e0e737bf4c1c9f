"""A checkpoint one can read, and the reference library."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType

import pytest
import torch

from kvik.weights import RawTensor


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    """The reference; its import takes seconds, so it is done once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        assert transformers.AutoModelForCausalLM
    return transformers


@dataclass
class FakeShard:
    name: str
    raws: list[RawTensor]
    is_released: bool = False

    def tensors(self, *, read_ahead: bool = True) -> Iterator[RawTensor]:
        assert not self.is_released
        yield from self.raws

    def release(self) -> None:
        self.is_released = True


@dataclass
class FakeCheckpoint:
    """Shards of given tensors; a shard is not handed out before the one before it was released."""

    all_shards: list[FakeShard] = field(default_factory=list)
    num_bytes: int = 0

    @property
    def num_shards(self) -> int:
        return len(self.all_shards)

    def shards(self) -> Iterator[FakeShard]:
        for shard in self.all_shards:
            yield shard
            assert shard.is_released, f"{shard.name} was not released"

    def add(self, **tensors: torch.Tensor) -> FakeCheckpoint:
        """One more shard; "__" in a keyword stands for a dot."""
        raws = [raw_tensor(name.replace("__", "."), tensor) for name, tensor in tensors.items()]
        return self.add_raw(*raws)

    def add_raw(self, *raws: RawTensor) -> FakeCheckpoint:
        self.all_shards.append(FakeShard(f"shard-{self.num_shards + 1}", list(raws)))
        return self


_FORMATS = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}


def raw_tensor(name: str, tensor: torch.Tensor) -> RawTensor:
    data = tensor.contiguous().view(-1).view(torch.uint8)
    return RawTensor(name=name, shape=tuple(tensor.shape), fmt=_FORMATS[tensor.dtype], data=data)


@pytest.fixture
def checkpoint() -> FakeCheckpoint:
    return FakeCheckpoint()
