"""Beam search through `LLM`: against every text that there is, and against transformers on a random tiny model."""

from __future__ import annotations

import itertools
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes.byte_tokenizer import VOCAB_SIZE, byte_tokenizer
from fakes.fake_executor import FakeExecutor, FakeRow
from kvik import LLM, BeamSearchParams, LoRARequest
from kvik.errors import InvalidRequestError
from kvik.llm import BeamSearchOutput, Prompt
from kvik.messages import LoraRequest, TokenLogprobs
from kvik.step import SampledTokens, ScheduledRequest

if TYPE_CHECKING:
    from conftest import Executors

EOS = 263
WORDS = (97, 98, 99, EOS)
"""All that the fake model ever says."""
PROMPT = [120, 121]
SQL, LAW = LoRARequest("sql", 1, "/adapters/sql"), LoRARequest("law", 2, "/adapters/law")


def logprobs_after(ids: tuple[int, ...], lora: LoraRequest | None = None) -> dict[int, float]:
    """A distribution over `WORDS` that depends on all tokens before and on the adapter."""
    salt = 0 if lora is None else lora.lora_int_id
    weights = {word: 1 + zlib.crc32(repr((salt, *ids, word)).encode()) % 97 for word in WORDS}
    return {word: math.log(weight / sum(weights.values())) for word, weight in weights.items()}


class TellingExecutor(FakeExecutor):
    """Says how likely each of `WORDS` is; no other token is possible. Counts the prompts of each step."""

    def _sample(self, row: FakeRow, share: ScheduledRequest) -> list[int]:
        values = logprobs_after(tuple(row.token_ids), row.admitted.lora)
        return [max(values, key=lambda word: values[word])]

    def _answer(self, share: ScheduledRequest, failed_ids: set[str]) -> SampledTokens:
        row = self.rows[share.request_id]
        before = tuple(row.token_ids)
        answer = super()._answer(share, failed_ids)
        if answer.token_ids:
            values = logprobs_after(before, row.admitted.lora)
            ranked = sorted(WORDS, key=lambda word: -values[word])
            answer.logprobs = [TokenLogprobs(ranked, [values[w] for w in ranked], [1, 2, 3, 4])]
        return answer


@pytest.fixture
def telling(executors: Executors) -> Executors:
    executors.kind = TellingExecutor
    return executors


def all_texts(prompt: list[int], max_tokens: int, lora: LoraRequest | None = None) -> dict[tuple[int, ...], float]:
    """Every answer of at most `max_tokens` tokens, with the sum of its logprobs."""
    texts: dict[tuple[int, ...], float] = {}
    for length in range(1, max_tokens + 1):
        for ids in itertools.product(WORDS, repeat=length):
            if EOS not in ids[:-1] and (ids[-1] == EOS or length == max_tokens):
                texts[ids] = sum(logprobs_after((*prompt, *ids[:i]), lora)[word] for i, word in enumerate(ids))
    return texts


def best_texts(prompt: list[int], max_tokens: int, lora: LoraRequest | None = None) -> list[list[int]]:
    texts = all_texts(prompt, max_tokens, lora)
    return [[*prompt, *ids] for ids in sorted(texts, key=lambda ids: -texts[ids] / len(ids))]


def tokens(output: BeamSearchOutput) -> list[list[int]]:
    return [sequence.tokens for sequence in output.sequences]


@pytest.mark.parametrize("prompt", [PROMPT, "xy", {"prompt_token_ids": PROMPT, "cache_salt": "s"}])
def test_wide_beams_find_the_best_of_all_texts(telling: Executors, model: str, prompt: Prompt) -> None:
    texts = all_texts(PROMPT, 3)
    with LLM(model, load_format="dummy", max_logprobs=-1) as llm:
        (output,) = llm.beam_search([prompt], BeamSearchParams(beam_width=len(texts), max_tokens=3))
    assert tokens(output) == best_texts(PROMPT, 3)
    for sequence in output.sequences:
        answer = tuple(sequence.tokens[2:])
        assert sequence.orig_prompt == prompt
        assert sequence.cum_logprob == pytest.approx(texts[answer])
        assert [next(iter(position)) for position in sequence.logprobs] == list(answer)
        assert sequence.text == "xy" + "".join(chr(word) for word in answer if word != EOS)
        assert sequence.finish_reason == ("stop" if answer[-1] == EOS else "length")
        assert sequence.lora_request is None


@pytest.mark.parametrize("limit", [None, 1, 2, 9])
def test_any_number_of_prompts_at_once_finds_the_same(telling: Executors, model: str, limit: int | None) -> None:
    prompts = [[120, i] for i in range(5)]
    params = BeamSearchParams(beam_width=40, max_tokens=3)
    with LLM(model, load_format="dummy", max_logprobs=-1) as llm:
        outputs = llm.beam_search(prompts, params, concurrency_limit=limit)
        assert [tokens(output) for output in outputs] == [best_texts(prompt, 3) for prompt in prompts]
        assert not llm.llm_engine.has_unfinished_requests


def test_a_limit_bounds_the_prompts_of_a_round(telling: Executors, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with LLM(model, load_format="dummy") as llm:
        added: list[int] = []
        run = llm._runner.run
        monkeypatch.setattr(llm._runner, "run", lambda requests: added.append(len(requests)) or run(requests))
        llm.beam_search([[1], [2], [3]], BeamSearchParams(beam_width=1, max_tokens=2, ignore_eos=True), None, False, 2)
    assert added == [2, 2, 1, 1]
    with LLM(model, load_format="dummy") as llm, pytest.raises(InvalidRequestError, match="at least 1"):
        llm.beam_search([[1]], BeamSearchParams(beam_width=1), concurrency_limit=0)


def test_beams_go_on_with_their_adapter(telling: Executors, model: str) -> None:
    params = BeamSearchParams(beam_width=10, max_tokens=2)
    with LLM(model, load_format="dummy", enable_lora=True, max_loras=2) as llm:
        outputs = llm.beam_search([PROMPT] * 3, params, lora_request=[None, SQL, LAW])
        for output, lora in zip(outputs, (None, SQL, LAW), strict=True):
            assert tokens(output) == best_texts(PROMPT, 2, lora)[:10]
            assert all(sequence.lora_request == lora for sequence in output.sequences)
        assert tokens(llm.beam_search(PROMPT, params, SQL)[0]) == tokens(outputs[1])
        with pytest.raises(InvalidRequestError, match="1 prompts, 2 values"):
            llm.beam_search([PROMPT], params, [SQL, LAW])


def test_adapters_that_cannot_be_used(telling: Executors, llm: LLM) -> None:
    with pytest.raises(InvalidRequestError, match="--enable-lora"):
        llm.beam_search(PROMPT, BeamSearchParams(beam_width=1), SQL)
    assert telling.made[0].num_steps == 0


def test_one_bad_prompt_leaves_nothing_running(telling: Executors, llm: LLM) -> None:
    with pytest.raises(InvalidRequestError):
        llm.beam_search([PROMPT, ""], BeamSearchParams(beam_width=2))
    assert not llm.llm_engine.has_unfinished_requests
    assert llm.beam_search([], BeamSearchParams(beam_width=2)) == []


def test_prompt_logprobs_come_along(telling: Executors, llm: LLM) -> None:
    (output,) = llm.beam_search(PROMPT, BeamSearchParams(beam_width=2, max_tokens=2, prompt_logprobs=0))
    assert output.prompt_token_ids == PROMPT
    assert output.prompt_logprobs is not None
    assert output.prompt_logprobs[0] is None
    assert [list(position) for position in output.prompt_logprobs[1:] if position] == [[121]]


def test_texts_of_one_length_as_transformers_finds_them(tmp_path: Path) -> None:
    """Without EOS the two are one algorithm: with it, transformers passes over ends that are not among the best
    `num_beams` candidates of a step, which can be among the best answers.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB_SIZE, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.3, tie_word_embeddings=False,
        bos_token_id=262, eos_token_id=263,
    )  # fmt: skip
    torch.manual_seed(1)
    reference = LlamaForCausalLM(config).eval()
    reference.save_pretrained(tmp_path)
    byte_tokenizer().backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with torch.no_grad():
        found = reference.generate(
            torch.tensor([PROMPT]), attention_mask=torch.ones(1, 2, dtype=torch.long), num_beams=4,
            num_return_sequences=4, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0,
            return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
    with LLM(str(tmp_path), dtype="float32", matmul_precision="highest", max_model_len=64) as llm:
        (output,) = llm.beam_search(PROMPT, BeamSearchParams(beam_width=4, max_tokens=6, ignore_eos=True))
    assert tokens(output) == found.sequences.tolist()
    sums = [sequence.cum_logprob / 6 for sequence in output.sequences]
    assert sums == pytest.approx(found.sequences_scores.tolist(), abs=1e-4)
