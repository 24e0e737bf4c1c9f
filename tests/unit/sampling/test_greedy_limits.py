"""What a client may mean by "greedy": each way, at its extreme, gives the tokens of temperature 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.sampling.sampler import Sampler
from kvik.sampling.state import SamplingState
from kvik.sampling_params import SamplingParams

V = 211
LIMITS: list[dict[str, Any]] = [
    {"temperature": 1e-30}, {"temperature": 5e-324}, {"temperature": 0.009}, {"top_k": 1},
    {"top_k": 1, "temperature": 2}, {"top_p": 1e-9}, {"top_p": 1e-300, "temperature": 2},
    {"top_p": 1e-9, "top_k": 50}, {"min_p": 1},
    {"min_p": 1, "temperature": 2, "top_p": 0.9},
]  # fmt: skip


def chosen(logits: torch.Tensor, **params: Any) -> list[int]:
    state = SamplingState(SamplingParams(seed=7, **params), [1, 2, 3], 3, None, logits.shape[1])
    return [token.token_id for token in Sampler().sample(logits.clone(), [state] * logits.shape[0])]


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_a_limit_is_greedy(limit: dict[str, Any]) -> None:
    logits = torch.randn(64, V, generator=torch.Generator().manual_seed(1)) * 3
    assert chosen(logits, **limit) == chosen(logits, temperature=0)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_of_equally_likely_tokens_it_is_the_first(limit: dict[str, Any]) -> None:
    flat = torch.zeros(8, V)
    flat[1::2, 5:9] = 4.0
    assert chosen(flat, **limit) == [0, 5] * 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=2, max_size=40), st.sampled_from(LIMITS))
def test_whatever_the_logits(steps: list[int], limit: dict[str, Any]) -> None:
    logits = torch.tensor([steps], dtype=torch.float32) / 4
    assert chosen(logits, **limit) == chosen(logits, temperature=0)
