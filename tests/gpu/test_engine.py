"""The engine on a GPU, through the offline door: the CPU's answers, by graphs and without them, ahead and in turn."""

from __future__ import annotations

from typing import Any

import pytest

from kvik import LLM, SamplingParams
from kvik.kernels import launch

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

PROMPTS = ["The capital of France is", "1, 2, 3, 4,", "Water boils at a temperature of", "Once upon a time"]
GREEDY = SamplingParams(temperature=0, max_tokens=24)


def answers(params: SamplingParams | list[SamplingParams] = GREEDY, **flags: Any) -> list[list[int]]:
    """Token ids of each prompt's answer, by the model that the package carries."""
    flags = {"device": "cuda", "dtype": "float32", "max_model_len": 1024, "num_gpu_blocks_override": 512} | flags
    with LLM(**flags) as llm:
        return [list(output.outputs[0].token_ids) for output in llm.generate(PROMPTS, params, use_tqdm=False)]


def agreement(found: list[list[int]], wanted: list[list[int]]) -> float:
    """Share of tokens up to the first other one, of all."""
    same = 0
    for ours, theirs in zip(found, wanted, strict=True):
        pairs = list(zip(ours, theirs, strict=False))
        same += next((at for at, (a, b) in enumerate(pairs) if a != b), len(pairs))
    return same / sum(map(len, wanted))


@pytest.fixture(scope="module")
def on_the_cpu() -> list[list[int]]:
    return answers(device="cpu", matmul_precision="highest")


def test_greedy_tokens_in_fp32_are_the_cpus(on_the_cpu: list[list[int]]) -> None:
    assert answers() == on_the_cpu


@pytest.mark.parametrize(
    "flags",
    [{"enforce_eager": True}, {"optimization_level": "1"}, {"async_scheduling": False},
     {"max_num_batched_tokens": 16, "max_num_seqs": 4}, {"attention_backend": "TORCH_SDPA"}],
    ids=str,
)  # fmt: skip
def test_no_way_to_compute_changes_a_token(flags: dict[str, Any], on_the_cpu: list[list[int]]) -> None:
    assert answers(**flags) == on_the_cpu


def test_every_wish_ahead_is_as_in_turn() -> None:
    """Sampling on the device, step after step without a wait, for neighbours that want different things."""
    wishes = [
        SamplingParams(temperature=0, max_tokens=24, frequency_penalty=1.5, repetition_penalty=1.2, logprobs=2),
        SamplingParams(temperature=1, seed=3, max_tokens=24, logit_bias={100: 2.0}, min_tokens=8),
        SamplingParams(temperature=0, max_tokens=24, bad_words=["the", " is a"], prompt_logprobs=1),
        SamplingParams(temperature=1, seed=4, top_p=0.9, max_tokens=24),
    ]
    assert answers(wishes) == answers(wishes, async_scheduling=False)


def test_bf16_says_nearly_the_same(on_the_cpu: list[list[int]]) -> None:
    assert agreement(answers(dtype="bfloat16"), on_the_cpu) > 0.5


def test_fp8_keys_and_values_say_nearly_the_same(on_the_cpu: list[list[int]]) -> None:
    if launch.lacks_fp8():
        pytest.skip("this GPU has no fp8")
    assert agreement(answers(dtype="bfloat16", kv_cache_dtype="fp8"), on_the_cpu) > 0.2


def test_seeds_give_the_same_again() -> None:
    ways = [SamplingParams(temperature=1.0, top_p=0.9, seed=seed, max_tokens=24) for seed in range(len(PROMPTS))]
    together = answers(ways)
    assert together == answers(ways)
    assert agreement(answers(ways, max_num_seqs=1), together) > 0.9


def test_penalties_logprobs_and_grammars_share_a_batch_with_plain_requests() -> None:
    ways = [
        GREEDY, SamplingParams(temperature=0, max_tokens=24, repetition_penalty=1.3, frequency_penalty=0.2),
        SamplingParams(temperature=0, max_tokens=24, logprobs=3, logit_bias={198: -100}), GREEDY,
    ]  # fmt: skip
    assert answers(ways) == answers(ways, device="cpu", matmul_precision="highest")
