"""Every architecture gives the tokens and logits that transformers gives, through a scattered cache and cut prompts."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
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
    reference: Any, tmp_path: Path, driver: Callable[[torch.dtype], Any], record_property: Callable[[str, object], None]
) -> None:
    """Within 2e-2, and closer to transformers in bf16 than transformers in fp32 is: the roundings are the same ones."""
    # Loaded anew: .to(bfloat16) would round the rotary frequencies too.
    rounded = type(reference).from_pretrained(tmp_path, dtype=torch.bfloat16)
    paged = driver(torch.bfloat16)
    errors, noises = [], []
    for prompt in prompts(reference.config.vocab_size):
        got = paged.prompt_logits(prompt)
        assert got.dtype == torch.float32
        assert torch.equal(got, got.bfloat16().float()), "logits are not rounded to the model's dtype"
        with torch.no_grad():
            wanted, exact = (model(torch.tensor([prompt])).logits[0].float() for model in (rounded, reference))
        errors.append((got - wanted).flatten())
        noises.append((exact - wanted).flatten())
    error, noise = torch.cat(errors), torch.cat(noises)
    share = float(error.square().mean().sqrt() / noise.square().mean().sqrt())
    record_property("max_abs_difference", float(error.abs().max()))
    print(f"bf16 logits: max abs difference {float(error.abs().max()):.5f}, {share:.2f} of the noise of bf16")
    assert error.abs().max() <= 2e-2
    assert share < 0.9
