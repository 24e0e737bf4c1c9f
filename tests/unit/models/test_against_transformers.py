"""Every architecture gives the tokens and logits that transformers gives, through a scattered cache and cut prompts."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MAX_TOKENS = 22
PROMPT_LENGTHS = (37, 1, 18, 50)
MAX_DIFFERENCE = 2e-3  # from fp32: what rounding keys and values costs
MAX_SHARE_OF_NOISE = 0.1  # of what rounding everything costs
MAX_DIFFERENCE_FROM_BF16 = 2.5e-2  # most of it is transformers' own: up to 1.7e-2 from fp32


def prompts(vocab_size: int) -> list[list[int]]:
    rng = random.Random(7)
    return [[rng.randrange(3, vocab_size) for _ in range(length)] for length in PROMPT_LENGTHS]


@torch.no_grad()
def greedy(reference: Any, prompt: list[int]) -> list[int]:
    """transformers' own loop over its cache, without stopping at an EOS token."""
    cache, ids, output = None, torch.tensor([prompt]), []
    for _ in range(MAX_TOKENS):
        out = reference(ids, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        ids = out.logits[:, -1:].argmax(-1)
        output.append(int(ids))
    return output


def test_greedy_tokens_are_identical_in_float32(reference: Any, driver: Callable[[torch.dtype], Any]) -> None:
    wanted = [greedy(reference, prompt) for prompt in prompts(reference.config.vocab_size)]
    assert any(len(set(tokens)) > 5 for tokens in wanted), "the random model repeats itself; the test would be weak"
    assert driver(torch.float32).generate(prompts(reference.config.vocab_size), MAX_TOKENS) == wanted


def test_logits_of_bfloat16_weights(
    reference: Any, tmp_path: Path, driver: Callable[[torch.dtype], Any], record_property: Callable[[str, object], None]
) -> None:
    """transformers in fp32 on the same rounded weights is the judge; its own run in bf16 is several times further."""
    reference.to(torch.bfloat16).save_pretrained(tmp_path)
    exact, rounding = (type(reference).from_pretrained(tmp_path, dtype=d) for d in (torch.float32, torch.bfloat16))
    paged = driver(torch.bfloat16)
    errors, noises, distances = [], [], []
    for prompt in prompts(reference.config.vocab_size):
        got = paged.prompt_logits(prompt)
        assert got.dtype == torch.float32
        with torch.no_grad():
            wanted, rounded = (model(torch.tensor([prompt])).logits[0].float() for model in (exact, rounding))
        errors.append((got - wanted).flatten())
        noises.append((rounded - wanted).flatten())
        distances.append((got - rounded).flatten())
    error, noise, distance = torch.cat(errors), torch.cat(noises), torch.cat(distances)
    share = float(error.square().mean().sqrt() / noise.square().mean().sqrt())
    record_property("max_abs_difference", float(error.abs().max()))
    print(
        f"logits of bf16 weights: max abs difference {float(error.abs().max()):.5f} from fp32, {share:.2f} of the "
        f"noise of bf16; {float(distance.abs().max()):.5f} from bf16"
    )
    assert error.abs().max() <= MAX_DIFFERENCE
    assert share < MAX_SHARE_OF_NOISE
    assert distance.abs().max() <= MAX_DIFFERENCE_FROM_BF16
