"""The free list against a plain list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.blocks.free_queue import FreeBlockQueue, KVCacheBlock


@given(st.lists(st.tuples(st.sampled_from(["pop", "front", "back", "remove"]), st.integers(0, 7)), max_size=60))
def test_it_behaves_like_a_list(operations: list[tuple[str, int]]) -> None:
    blocks = [KVCacheBlock(i) for i in range(8)]
    queue, model = FreeBlockQueue(blocks), list(blocks)
    for operation, index in operations:
        block = blocks[index]
        if operation == "pop" and model:
            assert queue.pop_front() is model.pop(0)
        elif operation == "remove" and block in model:
            queue.remove(block)
            model.remove(block)
        elif operation == "front" and block not in model:
            queue.push_front(block)
            model.insert(0, block)
        elif operation == "back" and block not in model:
            queue.push_back(block)
            model.append(block)
        assert list(queue) == model
        assert len(queue) == len(model)


def test_misuse_is_refused() -> None:
    block = KVCacheBlock(1)
    queue = FreeBlockQueue([block])
    with pytest.raises(ValueError, match="already"):
        queue.push_front(block)
    queue.remove(block)
    with pytest.raises(ValueError, match="not in the free list"):
        queue.remove(block)
    with pytest.raises(IndexError):
        queue.pop_front()
