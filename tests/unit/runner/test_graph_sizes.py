from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.config import EngineConfig, SchedulerConfig
from kvik.config.compilation import CompilationConfig
from kvik.runner.graph_sizes import GraphSizes, default_sizes, sizes_of


@given(st.integers(1, 2000), st.integers(1, 16384))
def test_sizes_ascend_and_stay_within_the_limits(max_num_seqs: int, max_num_batched_tokens: int) -> None:
    sizes = default_sizes(max_num_seqs, max_num_batched_tokens)
    assert sizes
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] <= min(max_num_batched_tokens, 512)


def test_sizes_of_the_field() -> None:
    sizes = default_sizes(256, 8192)
    assert sizes[:6] == (1, 2, 4, 8, 16, 24)
    assert sizes[-1] == 512
    assert 272 in sizes
    assert 264 not in sizes


@given(st.lists(st.integers(1, 600), min_size=1, max_size=60, unique=True), st.integers(1, 700))
def test_padded_is_the_least_size_that_takes_them(sizes: list[int], num_tokens: int) -> None:
    padded = GraphSizes(full=tuple(sorted(sizes))).padded("FULL", num_tokens)
    assert padded == min((s for s in sizes if s >= num_tokens), default=None)


@given(st.integers(1, 600))
def test_what_is_there_at_the_start_takes_every_batch_with_little_padding(num_tokens: int) -> None:
    sizes = GraphSizes(default_sizes(300, 8192), default_sizes(300, 8192))
    padded = sizes.first.padded("FULL", num_tokens)
    assert (padded is None) == (sizes.padded("FULL", num_tokens) is None)
    assert padded is None or padded <= 7 * num_tokens
    assert (sizes.first.padded("PIECEWISE", num_tokens) is None) == (num_tokens > 512)
    assert len(sizes.first) < len(sizes) / 4


@pytest.mark.parametrize(
    ("mode", "full", "piecewise"),
    [
        ("NONE", (), ()),
        ("PIECEWISE", (), (1, 4, 16)),
        ("FULL", (1, 4), ()),
        ("FULL_DECODE_ONLY", (1, 4), ()),
        ("FULL_AND_PIECEWISE", (1, 4), (1, 4, 16)),
    ],
)
def test_what_the_configuration_asks_for(mode: str, full: tuple[int, ...], piecewise: tuple[int, ...]) -> None:
    compilation = CompilationConfig(cudagraph_mode=mode, cudagraph_capture_sizes=(1, 4, 16))
    config = SimpleNamespace(
        scheduler=SchedulerConfig(max_num_seqs=8, max_num_batched_tokens=64), compilation=compilation
    )
    assert sizes_of(cast("EngineConfig", config)) == GraphSizes(full, piecewise)
