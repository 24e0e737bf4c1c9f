from __future__ import annotations

import pytest

from fakes.byte_tokenizer import HELLO, VOCAB_SIZE, byte_tokenizer
from kvik.errors import InvalidRequestError
from kvik.text.bad_words import tokenize_bad_words

TOKENIZER = byte_tokenizer()


def test_a_word_is_spelled_with_and_without_a_space() -> None:
    plain = TOKENIZER.encode("hello", add_special_tokens=False)
    assert tokenize_bad_words(["hello"], TOKENIZER, VOCAB_SIZE) == [plain, [HELLO]]
    assert tokenize_bad_words([" hello"], TOKENIZER, VOCAB_SIZE) == [[HELLO]]


def test_one_spelling_is_enough_where_the_space_is_a_token_of_its_own() -> None:
    assert tokenize_bad_words(["x"], TOKENIZER, VOCAB_SIZE) == [[ord("x")]]


@pytest.mark.parametrize("words", [["x"] * 129, ["hello"] * 65, ["x" * 1025]])
def test_limits(words: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="may come to") as caught:
        tokenize_bad_words(words, TOKENIZER, VOCAB_SIZE)
    assert caught.value.param == "bad_words"


def test_without_a_tokenizer() -> None:
    with pytest.raises(InvalidRequestError, match="tokenizer"):
        tokenize_bad_words(["x"], None, VOCAB_SIZE)
