from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvik.bench.dataset_files import custom_prompts, oversampled, sharegpt_prompts
from kvik.bench.datasets import Prefixes, RandomLengths, WordSource, prefix_prompts, random_prompts
from kvik.errors import ConfigError
from kvik.modelfile import embedded_model_path
from kvik.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(embedded_model_path())


def test_random_prompts_have_exact_lengths_also_as_text(tokenizer: Tokenizer) -> None:
    prompts = random_prompts(tokenizer, 20, RandomLengths(64, 16, prefix_len=8), seed=3)
    assert {len(p.token_ids) for p in prompts} == {72}
    assert [p.num_tokens for p in prompts] == [len(tokenizer.encode(p.text, False)) for p in prompts] == [72] * 20
    assert len({p.token_ids[:8] for p in prompts}) == 1
    assert len({p.token_ids[8:] for p in prompts}) == 20


def test_same_seed_same_prompts(tokenizer: Tokenizer) -> None:
    lengths = RandomLengths(32, 8, range_ratio=0.5)
    first = random_prompts(tokenizer, 30, lengths, seed=1)
    assert first == random_prompts(tokenizer, 30, lengths, seed=1)
    assert first != random_prompts(tokenizer, 30, lengths, seed=2)
    assert all(16 <= len(p.token_ids) <= 48 and 4 <= p.output_len <= 12 for p in first)
    assert len({p.output_len for p in first}) > 3


def test_special_tokens_are_never_drawn(tokenizer: Tokenizer) -> None:
    assert not set(WordSource(tokenizer, 0).draw(2000)) & tokenizer.special_token_ids


def test_prefixes_are_shared_evenly(tokenizer: Tokenizer) -> None:
    prompts = prefix_prompts(tokenizer, 7, Prefixes(12, 4, 3, 5), seed=0, shuffle=True)
    counts = [sum(q.token_ids[:12] == p for q in prompts) for p in {q.token_ids[:12] for q in prompts}]
    assert sorted(counts) == [2, 2, 3]
    assert {p.output_len for p in prompts} == {5}


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (RandomLengths(0, 1), "--random-input-len must be at least 1, got 0"),
        (RandomLengths(1, 0), "--random-output-len must be at least 1"),
        (RandomLengths(1, 1, 1.0), "--random-range-ratio"),
        (RandomLengths(1, 1, 0, -1), "--random-prefix-len"),
    ],
)
def test_lengths_that_cannot_be(tokenizer: Tokenizer, lengths: RandomLengths, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        random_prompts(tokenizer, 1, lengths, 0)


def test_more_prefixes_than_prompts(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="num-prefixes must be 1 to --num-prompts 2, got 3"):
        prefix_prompts(tokenizer, 2, Prefixes(num_prefixes=3), 0, False)


def test_a_tokenizer_without_words() -> None:
    class Bytes:
        vocab_size = 256
        special_token_ids: frozenset[int] = frozenset()

        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            return list(text.encode())

        def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
            return bytes(ids).decode(errors="replace")

    with pytest.raises(ConfigError, match="no tokens that begin a word"):
        WordSource(Bytes(), 0).draw(1000)


def test_sharegpt(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    good = {"conversations": [{"value": "What is a ferry boat?"}, {"value": "It is a boat that crosses a strait."}]}
    bad = [{"conversations": []}, {}, 3, {"conversations": [{"value": "Hi"}, {"value": "Yes"}]}]
    path.write_text(json.dumps([good, *bad]))
    [prompt] = sharegpt_prompts(path, tokenizer, 5, None, 0, shuffle=False)
    assert prompt.text == "What is a ferry boat?"
    assert prompt.output_len == len(tokenizer.encode("It is a boat that crosses a strait.", False))
    assert [p.output_len for p in sharegpt_prompts(path, tokenizer, 5, 77, 0, shuffle=True)] == [77]
    assert oversampled([prompt], 3, seed=0) == [prompt] * 3


def test_custom(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"prompt": "one", "output_tokens": 5}\n\n{"prompt": "two"}\n')
    first = custom_prompts(path, tokenizer, 1, -1, 0, False, lambda text: f"<{text}>")
    assert [(p.text, p.output_len) for p in first] == [("<one>", 5)]
    with pytest.raises(ConfigError, match='line 3: --custom-output-len -1 needs "output_tokens"'):
        custom_prompts(path, tokenizer, 2, -1, 0, False, str)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "line 1 is no JSON"), ("[]", "must be an object"), ("", "no prompt")]
)
def test_bad_lines(tokenizer: Tokenizer, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        custom_prompts(path, tokenizer, 1, 8, 0, False, str)


def test_a_file_that_is_missing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read --dataset-path"):
        sharegpt_prompts(tmp_path / "x", tokenizer, 1, None, 0, False)
