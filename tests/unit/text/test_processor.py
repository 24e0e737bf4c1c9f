from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fakes.byte_tokenizer import BOS, EOS, EOT, HELLO, VOCAB_SIZE, byte_tokenizer
from fakes.engine_config import engine_config
from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams
from kvik.text.processor import ProcessedRequest, Processor, PromptOptions
from kvik.text.tokenizer_parts import set_bos_eos

MAX_MODEL_LEN = 32


def make(**model: Any) -> Processor:
    return Processor(engine_config(**model).model, byte_tokenizer(), MAX_MODEL_LEN)


def process(prompt: Any = "say", processor: Processor | None = None, **params: Any) -> ProcessedRequest:
    return (processor or make()).process(prompt, SamplingParams(**params), "id")


def refused(param: str, prompt: Any = "say", **params: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        process(prompt, **params)
    assert caught.value.param == param
    return caught.value.message


def test_text_becomes_one_engine_request() -> None:
    request = make().process("say hello", SamplingParams(temperature=0), "id", priority=3, cache_salt="s")
    (engine_request,) = request.engine_requests
    assert request.request_id == "id"
    assert request.internal_id.startswith("id-")
    assert len(request.internal_id) == len("id-") + 8
    assert engine_request.request_id == request.internal_id
    assert engine_request.prompt_token_ids == request.prompt_token_ids == [*b"say", HELLO]
    assert (engine_request.priority, engine_request.cache_salt) == (3, "s")
    assert engine_request.sampling_params.seed is None
    assert (request.prompt, process([1, 2]).prompt) == ("say hello", None)


def test_special_tokens_of_the_tokenizer_are_added_unless_not_wanted() -> None:
    tokenizer = byte_tokenizer()
    set_bos_eos(tokenizer.backend, "<|start|>", None)
    processor = Processor(engine_config().model, tokenizer, MAX_MODEL_LEN)
    assert processor.process("a", SamplingParams(), "id").prompt_token_ids == [BOS, 97]
    without = PromptOptions(add_special_tokens=False)
    assert processor.process("a", SamplingParams(), "id", options=without).prompt_token_ids == [97]


def test_n_answers_are_n_requests_with_seeds_in_a_row() -> None:
    request = process(n=3, seed=7, prompt_logprobs=0)
    ids = [r.request_id for r in request.engine_requests]
    assert ids == [f"{i}_{request.internal_id}" for i in range(3)]
    assert [r.sampling_params.seed for r in request.engine_requests] == [7, 8, 9]
    assert [r.sampling_params.n for r in request.engine_requests] == [1, 1, 1]
    assert [r.sampling_params.prompt_logprobs for r in request.engine_requests] == [0, None, None]


def test_seeds_stay_within_64_bits() -> None:
    seeds = [r.sampling_params.seed for r in process(n=2, seed=2**63 - 1).engine_requests]
    assert seeds == [2**63 - 1, -(2**63)]


def test_random_requests_get_a_seed_that_the_servers_seed_decides() -> None:
    first, second = (process(processor=make(seed=1)).params.seed for _ in range(2))
    processor = make(seed=1)
    assert first == second == process(processor=processor).params.seed
    assert process(processor=processor).params.seed != first != process(processor=make(seed=2)).params.seed
    assert first is not None
    assert 0 <= first < 2**63


def test_eos_is_apart_and_further_ones_are_stop_tokens() -> None:
    processor = make(eos_token_ids=(EOT, EOS))
    (request,) = process(processor=processor, stop_token_ids=[5, EOT]).engine_requests
    assert request.eos_token_id == EOS  # the tokenizer's
    assert request.sampling_params.stop_token_ids == [5, EOT]
    (request,) = process(processor=processor, ignore_eos=True, stop_token_ids=[5]).engine_requests
    assert request.eos_token_id is None
    assert request.sampling_params.stop_token_ids == [5]


def test_lengths() -> None:
    assert process([1] * 30, max_tokens=None).params.max_tokens == 2
    assert process([1] * 30, max_tokens=16).params.max_tokens == 2
    assert "32" in refused("input_tokens", [1] * 33)
    assert "33" in refused("input_tokens", "x" * 33)
    refused("max_tokens", "x" * 32)
    refused("max_tokens", "x", max_tokens=33)
    assert "characters" in refused("input_text", "x" * (32 * 9 + 1))


def test_truncation_replaces_refusal() -> None:
    options = PromptOptions(truncate_prompt_tokens=4)
    assert make().process("x" * 1000 + "abcd", SamplingParams(), "id", options=options).prompt_token_ids == [*b"abcd"]
    assert len(make().process([1] * 100, SamplingParams(), "id", options=options).prompt_token_ids) == 4


def test_prompts_that_are_none() -> None:
    assert "empty" in refused("prompt", "")
    assert "empty" in refused("prompt", [])
    assert str(VOCAB_SIZE) in refused("prompt", [VOCAB_SIZE])
    refused("prompt", [-1])


def test_parameters_are_checked_against_vocabulary_and_limits() -> None:
    refused("stop_token_ids", stop_token_ids=[VOCAB_SIZE])
    refused("logprobs", logprobs=21)
    refused("stop", stop=["x"] * 5)


def test_bad_words_are_spelled() -> None:
    assert process(bad_words=["x"]).params.bad_words_token_ids == [[ord("x")]]


def test_parameters_arrive_in_canonical_form() -> None:
    params = process(temperature=0.001, top_k=-1).params
    assert (params.temperature, params.top_k) == (0.0, 0)


@pytest.mark.parametrize("salt", ["", "x" * 129, "a@b", "a/b", "a\\b", "a\0b"])
def test_cache_salts_that_are_refused(salt: str) -> None:
    with pytest.raises(InvalidRequestError, match="cache_salt"):
        make().process("a", SamplingParams(), "id", cache_salt=salt)


def test_without_a_tokenizer_only_token_ids_are_taken() -> None:
    processor = Processor(engine_config(eos_token_ids=(EOS,)).model, None, MAX_MODEL_LEN)
    request = processor.process([1], SamplingParams(), "id")
    assert not request.params.detokenize
    assert request.engine_requests[0].eos_token_id == EOS
    with pytest.raises(InvalidRequestError, match="token ids"):
        processor.process("text", SamplingParams(), "id")


def test_process_async_does_the_same() -> None:
    processor = Processor(engine_config().model, byte_tokenizer(), 100_000)
    for prompt in ([1, 2], "short", "long " * 5000):
        request = asyncio.run(processor.process_async(prompt, SamplingParams(), "id"))
        assert request.prompt_token_ids == processor.process(prompt, SamplingParams(), "id").prompt_token_ids
