"""mask_tokens against Python's own bits."""

from __future__ import annotations

import math

import pytest
import torch

from kvik.kernels.mask_tokens import mask_tokens, reference


def random_words(num_masks: int, num_words: int) -> torch.Tensor:
    """All, none, and some."""
    generator = torch.Generator().manual_seed(num_words)
    words = torch.randint(-(2**31), 2**31, (num_masks, num_words), generator=generator, dtype=torch.int64)
    kinds = torch.randint(0, 3, words.shape, generator=generator)
    return words.where(kinds == 2, kinds - 1).to(torch.int32)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("vocab_size", [1, 31, 32, 33, 64, 1000, 49152])
@pytest.mark.parametrize("use", [mask_tokens, reference.mask_tokens])
def test_bits_say_what_may_come(vocab_size, use):
    logits = torch.randn(5, vocab_size)
    rows = torch.tensor([4, 1, 2], dtype=torch.int32)
    masks = random_words(3, vocab_size // 32 + 1)
    got = logits.clone()
    use(got, rows, masks)
    expected = logits.clone()
    for row, mask in zip(rows.tolist(), masks.tolist(), strict=True):
        for i in range(vocab_size):
            if not mask[i // 32] >> i % 32 & 1:
                expected[row, i] = -math.inf
    assert torch.equal(got, expected)


@pytest.mark.usefixtures("backend")
def test_no_masks():
    logits = torch.randn(2, 40)
    got = logits.clone()
    mask_tokens(got, torch.zeros(0, dtype=torch.int32), torch.zeros(0, 2, dtype=torch.int32))
    assert torch.equal(got, logits)


@pytest.mark.parametrize(
    ("logits", "rows", "masks"),
    [
        (torch.zeros(2, 40, dtype=torch.float64), [0], torch.zeros(1, 2, dtype=torch.int32)),
        (torch.zeros(40, 2).T, [0], torch.zeros(1, 2, dtype=torch.int32)),
        (torch.zeros(2, 65), [0], torch.zeros(1, 2, dtype=torch.int32)),
        (torch.zeros(2, 40), [0], torch.zeros(1, 2, dtype=torch.int64)),
        (torch.zeros(2, 40), [0, 1], torch.zeros(1, 2, dtype=torch.int32)),
        (torch.zeros(2, 40), [2], torch.zeros(1, 2, dtype=torch.int32)),
        (torch.zeros(2, 40), [-1], torch.zeros(1, 2, dtype=torch.int32)),
    ],
)
def test_wrong_arguments(logits, rows, masks):
    with pytest.raises(ValueError, match="must be"):
        mask_tokens(logits, torch.tensor(rows, dtype=torch.int32), masks)
