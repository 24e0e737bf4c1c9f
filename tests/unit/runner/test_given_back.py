from __future__ import annotations

import pytest
import torch

from fakes.fake_gpu import FakeGpu
from kvik.errors import InsufficientMemoryError
from kvik.runner.given_back import GivenBack


def test_tensors_and_their_views_stay() -> None:
    whole = torch.arange(12, dtype=torch.float32).view(3, 4)
    row, other = whole[1], torch.ones(5)
    given = GivenBack(FakeGpu())
    assert given.is_empty
    assert given.give_back("weights", [whole, row, other]) == 48 + 20
    assert whole.untyped_storage().nbytes() == 0
    assert not given.is_empty
    assert given.give_back("weights", [whole, row, other]) == 0
    given.take_again("kv_cache")  # was never away
    given.take_again("weights")
    assert given.is_empty
    assert whole.tolist() == [[0.0] * 4] * 3
    whole.fill_(7)
    assert row.tolist() == [7.0] * 4
    assert other.tolist() == [0.0] * 5


def test_who_finds_the_memory_taken_can_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [torch.ones(4), torch.ones(1 << 20)]
    given = GivenBack(FakeGpu(total=1 << 20))
    given.give_back("kv_cache", tensors)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "zero_", _out_of_memory)
        with pytest.raises(InsufficientMemoryError, match=r"kv_cache had 0.00 GiB of a fake GPU, .* wake the engine"):
            given.take_again("kv_cache")
    assert [tensor.untyped_storage().nbytes() for tensor in tensors] == [0, 0]
    given.take_again("kv_cache")
    assert [tensor.untyped_storage().nbytes() for tensor in tensors] == [16, 4 << 20]


def _out_of_memory(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.numel() > 16:
        raise torch.OutOfMemoryError("no room")
    return tensor.fill_(0)
