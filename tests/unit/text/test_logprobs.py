from __future__ import annotations

import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models

from fakes.byte_tokenizer import EOS, HELLO, TWO_THIRDS_OF_EURO, byte_tokenizer
from kvik.messages import TokenLogprobs
from kvik.text.logprobs import LogprobDecoder
from kvik.text.outputs import Logprob

TOKENIZER = byte_tokenizer()
DECODER = LogprobDecoder(TOKENIZER.backend)


def test_the_chosen_token_comes_first_with_its_rank() -> None:
    position = DECODER.position([], TokenLogprobs([HELLO, EOS, 97], [-2.0, -0.5, -1.0], [3, 1, 2]))
    assert list(position.items()) == [
        (HELLO, Logprob(-2.0, 3, " hello")),
        (EOS, Logprob(-0.5, 1, "<|end|>")),
        (97, Logprob(-1.0, 2, "a")),
    ]
    assert position[97].utf8 == [97]


def test_the_token_that_completes_a_character_has_it_whole() -> None:
    assert DECODER.token_text([HELLO], TWO_THIRDS_OF_EURO) == ""
    assert DECODER.token_text([HELLO, TWO_THIRDS_OF_EURO], 0xAC) == "€"
    assert DECODER.token_text([HELLO, 0xE2, 0x82], 0xAC) == "€"
    assert DECODER.token_text([HELLO, 0xE2], 0x82) == ""


@given(st.text(max_size=20).filter(lambda text: "\ufffd" not in text))
def test_the_texts_of_a_texts_tokens_make_up_the_text(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert "".join(DECODER.token_text(ids[:n], i) for n, i in enumerate(ids)) == text


def test_the_space_before_a_word_is_kept_where_decoders_drop_a_texts_first_one() -> None:
    backend = tokenizers.Tokenizer(models.BPE(vocab={"▁a": 0, "b": 1}, merges=[]))
    backend.decoder = decoders.Metaspace()
    assert backend.decode([0, 0]) == "a a"
    decoder = LogprobDecoder(backend)
    assert [decoder.token_text([], i) for i in (0, 1)] == [" a", "b"]


def test_without_a_tokenizer_texts_are_empty() -> None:
    assert LogprobDecoder(None).token_text([1], 2) == ""
