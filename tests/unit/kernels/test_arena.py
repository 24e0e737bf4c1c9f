"""The arena: pieces live as long as tensors over them, and lie beside each other, not on each other."""

from __future__ import annotations

import random

import pytest
import torch

from kvik.kernels.arena import Arena, ArenaFullError, empty
from kvik.kernels.runtime import native

pytestmark = pytest.mark.skipif(native is None, reason="no native build")


def test_outside_of_an_arena_a_tensor_is_a_tensor() -> None:
    assert empty(3, 5).shape == (3, 5)
    assert empty(2, 2, torch.bfloat16).dtype is torch.bfloat16


def test_memory_of_the_dead_is_handed_out_again() -> None:
    arena = Arena(4096)
    with arena.serving():
        first = empty(16, 16)
        address = first.data_ptr()
        assert arena.memory.data_ptr() <= address < arena.memory.data_ptr() + arena.memory.nbytes
        del first
        assert empty(16, 16).data_ptr() == address
    assert arena.num_bytes_in_use == 0
    assert arena.peak_bytes == 1024


def test_a_view_keeps_the_whole_piece() -> None:
    arena = Arena(4096)
    with arena.serving():
        whole = empty(16, 16)
        column = whole[:, 3:5]
        del whole
        column.fill_(7.0)
        other = empty(16, 16)
        other.zero_()
    assert column.tolist() == [[7.0, 7.0]] * 16
    del column
    assert arena.num_bytes_in_use == 1024


def test_more_than_there_is_raises_with_the_sizes() -> None:
    arena = Arena(4096)
    with arena.serving(), pytest.raises(ArenaFullError, match=r"8192 bytes .* 0 that are alive in an arena of"):
        empty(1, 2048, torch.float32)


def test_random_lives_never_overlap_and_all_comes_back() -> None:
    chance, arena = random.Random(0), Arena(1 << 16)
    alive: list[tuple[torch.Tensor, float]] = []
    with arena.serving():
        for step in range(500):
            if alive and chance.random() < 0.5:
                tensor, value = alive.pop(chance.randrange(len(alive)))
                assert torch.all(tensor == value)
                del tensor
            elif len(alive) < 12:
                alive.append((empty(chance.randrange(1, 12), chance.randrange(1, 90)).fill_(step), float(step)))
    alive.clear()
    assert arena.num_bytes_in_use == 0
    with arena.serving():
        assert empty(1, arena.memory.nbytes // 4).nbytes == arena.memory.nbytes  # one free range again
