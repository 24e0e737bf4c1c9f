"""Every architecture gives the tokens and logits that transformers gives, through a scattered cache and cut prompts."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch

MAX_TOKENS = 22
PROMPT_LENGTHS = (37, 1, 18, 50)


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


def test_logits_agree_in_bfloat16(
    reference: Any, driver: Callable[[torch.dtype], Any], record_property: Callable[[str, object], None]
) -> None:
    reference = reference.to(torch.bfloat16)
    paged = driver(torch.bfloat16)
    worst = 0.0
    for prompt in prompts(reference.config.vocab_size):
        with torch.no_grad():
            wanted = reference(torch.tensor([prompt])).logits[0].float()
        got = paged.prompt_logits(prompt)
        assert got.dtype == torch.float32
        assert torch.equal(got, got.bfloat16().float()), "logits are not rounded to the model's dtype"
        worst = max(worst, float((got - wanted).abs().max()))
    record_property("max_abs_difference", worst)
    print(f"max abs difference of bf16 logits: {worst:.5f}")
    assert worst <= 2e-2
