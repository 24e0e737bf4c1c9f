"""The bytes of tokens are those that the tokenizer decodes to."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from llguidance import LLTokenizer
from tokenizers import decoders, models, pre_tokenizers

from kvik.errors import ModelFileError
from kvik.grammar.vocabulary import TokenBytes, byte_level, load_vocabulary, sentencepiece
from kvik.modelfile.embedded import embedded_model_path
from kvik.text.tokenizer import Tokenizer


def test_a_gguf_files_tokens_are_what_its_tokenizer_decodes() -> None:
    path = embedded_model_path()
    tokenizer = Tokenizer.load(path)
    vocabulary = load_vocabulary(path, tokenizer.vocab_size + 3, [2])
    for token_id in range(0, tokenizer.vocab_size, 7):
        if token_id not in tokenizer.special_token_ids:
            decoded = tokenizer.decode([token_id], skip_special_tokens=False)
            assert vocabulary.decode_bytes([token_id]).decode(errors="replace") == decoded
    assert vocabulary.vocab_size == tokenizer.vocab_size + 4
    assert vocabulary.is_special_token(2)


def test_a_folders_tokens_are_those_that_llguidance_reads(tmp_path: Path) -> None:
    words = [*pre_tokenizers.ByteLevel.alphabet(), "Ġthe"]
    backend = tokenizers.Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end|>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    ours = load_vocabulary(tmp_path, len(words) + 1)
    theirs = LLTokenizer(backend.to_str())
    assert [ours.decode_bytes([i]) for i in range(len(words))] == [theirs.decode_bytes([i]) for i in range(len(words))]
    assert ours.is_special_token(backend.token_to_id("<|end|>"))


def test_spellings() -> None:
    assert byte_level("Ġa") == b" a"
    assert byte_level("日") == "日".encode()
    assert sentencepiece("\u2581a") == b" a"
    assert sentencepiece("<0x0A>") == b"\n"


def test_forced_text_is_spelled_with_the_longest_tokens() -> None:
    assert TokenBytes([b"a", b"ab", b"b", b"<end>"], [3])("aba") == [1, 0]


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelFileError, match="no vocabulary"):
        load_vocabulary(tmp_path, 10)
