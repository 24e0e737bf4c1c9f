"""The judge: `transformers` in fp32. kvik, from the same weights in bf16, gives its answers to the same prompts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvik.modelfile import embedded_model_path
from support.judge import load_judge
from support.server import MODEL, KvikServer

NUM_TOKENS = 32
MAX_DISAGREEMENTS = 2
"""Expected is none; a processor with other vectors sums in another order."""
NEAR_TIE = 0.05
"""Distance of the judge's best logit and that of kvik's token below which either is a right answer."""

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
    return load_judge()


@pytest.fixture(scope="module")
def bf16_server(judge: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KvikServer]:
    """The judge's weights in bf16. The default model's own file is computed in its 4 bits, with rounded inputs."""
    folder: Path = tmp_path_factory.mktemp("smollm2")
    stored = {name: t.bfloat16() if t.ndim == 2 else t for name, t in judge.state_dict().items()}
    judge.save_pretrained(folder, state_dict=stored)
    flags = ("--dtype", "bfloat16", "--tokenizer", str(embedded_model_path()), "--served-model-name", MODEL)
    with KvikServer(str(folder), *flags) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_forty_greedy_answers_agree(bf16_server: KvikServer, judge: Any) -> None:
    disagreements = []
    for question in QUESTIONS:
        prompt, tokens = answer_of_kvik(bf16_server, question)
        logits = logits_of_judge(judge, prompt, tokens)
        best, chosen = logits.max(-1).values, logits.argmax(-1).tolist()
        if tokens != chosen:
            at = next(i for i, pair in enumerate(zip(tokens, chosen, strict=True)) if pair[0] != pair[1])
            disagreements.append((question, at, float(best[at] - logits[at, tokens[at]])))
    assert len(disagreements) <= MAX_DISAGREEMENTS, disagreements
    assert all(gap <= NEAR_TIE for _, _, gap in disagreements), disagreements


def logits_of_judge(judge: Any, prompt: list[int], tokens: list[int]) -> Any:
    """What the judge thinks after each token of kvik's answer, [tokens, V].

    Up to the first disagreement this is what it would see in a greedy run of its own, in one pass.
    """
    import torch

    with torch.inference_mode():
        return judge(torch.tensor([prompt + tokens[:-1]])).logits[0, len(prompt) - 1 :]


def answer_of_kvik(server: KvikServer, question: str) -> tuple[list[int], list[int]]:
    body = dict(
        model=MODEL, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=NUM_TOKENS,
        return_token_ids=True,
    )  # fmt: skip
    answer = server.request("POST", "/v1/chat/completions", body)[1]
    return answer["prompt_token_ids"], answer["choices"][0]["token_ids"]
