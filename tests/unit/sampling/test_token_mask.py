"""Masks rule out what they say, and nothing else."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvik.sampling import Sampler, SamplingState
from kvik.sampling.token_mask import apply_masks
from kvik.sampling_params import SamplingParams
from kvik.structured_outputs import StructuredOutputs


def packed(allowed: list[bool]) -> np.ndarray:
    """As a grammar makes it: one word more than the vocabulary may need."""
    bits = np.zeros((len(allowed) // 32 + 1) * 32, np.uint8)
    bits[: len(allowed)] = allowed
    return np.packbits(bits, bitorder="little").view(np.uint32)


@given(st.data(), st.integers(1, 100), st.integers(1, 4))
def test_rows_get_their_masks(data: st.DataObject, vocab_size: int, num_rows: int) -> None:
    bits = st.lists(st.booleans(), min_size=vocab_size, max_size=vocab_size)
    masks = [data.draw(st.none() | bits.map(packed)) for _ in range(num_rows)]
    logits = torch.randn(num_rows, vocab_size)
    expected = logits.clone()
    for row, mask in zip(expected, masks, strict=True):
        if mask is not None:
            bits = np.unpackbits(mask.view(np.uint8), count=vocab_size, bitorder="little")
            row.masked_fill_(torch.from_numpy(bits == 0), -torch.inf)
    apply_masks(logits, masks)
    assert torch.equal(logits, expected)


def state(**params: object) -> SamplingState:
    return SamplingState(SamplingParams(**params), [1, 2], 2, None, 8)  # type: ignore[arg-type]


def test_what_is_masked_is_never_chosen_and_neighbours_are_untouched() -> None:
    grammar = StructuredOutputs(compiled="g")
    logits = torch.tensor([[0.0, 9, 8, 1, 2, 3, 4, 5]]).repeat(3, 1)
    masks = [None, packed([False] * 3 + [True] + [False] * 4), packed([False] * 8)]
    sampled = Sampler().sample(logits, [state(temperature=0, structured_outputs=grammar)] * 3, masks)
    assert [s.token_id for s in sampled] == [1, 3, -1]
    assert sampled[2].error is not None
    assert "structured_outputs rules out" in sampled[2].error


def test_biases_and_draws_stay_within_the_mask_and_logprobs_are_the_models() -> None:
    mask = packed([True, False, True, False, False, False, False, False])
    for seed in range(20):
        logits = torch.zeros(1, 8)
        ((token_id, logprobs, error, _),) = Sampler().sample(
            logits, [state(temperature=1.5, seed=seed, logit_bias={1: 100.0}, logprobs=0)], [mask]
        )
        assert token_id in (0, 2)
        assert error is None
        assert logprobs is not None
        assert abs(logprobs.logprobs[0] + np.log(8)) < 1e-5
