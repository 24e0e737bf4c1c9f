"""A folder's tokenizer against transformers' reading of the same folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from kvik.errors import InvalidRequestError, ModelFileError
from kvik.text.tokenizer import Tokenizer

CORPUS = ["the quick brown fox jumps over the lazy dog", "def f(x): return x ** 2", "héllo wörld 12345 😀"] * 5
TEXTS = ["", "the fox", "  héllo\n\n<|eos|> 123 <|tool|>", "😀" * 3, "<|bos|>the"]


def trained() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|bos|>", "<|eos|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens([AddedToken("<|tool|>", special=False, normalized=False)])
    return backend


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    backend = trained()
    backend.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 0)])
    backend.save(str(tmp_path / "tokenizer.json"))
    configure(tmp_path, bos_token="<|bos|>", eos_token="<|eos|>")
    return tmp_path


def configure(folder: Path, **values: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    "flags", [{}, {"add_bos_token": False}, {"add_bos_token": True, "add_eos_token": True}, {"add_eos_token": True}]
)
def test_agrees_with_transformers(folder: Path, flags: dict[str, bool]) -> None:
    configure(folder, bos_token="<|bos|>", eos_token={"content": "<|eos|>", "special": True}, **flags)
    ours = Tokenizer.load(folder)
    truth = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<|bos|>", eos_token="<|eos|>", **flags
    )
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == truth(text)["input_ids"]
        assert ours.encode(text, add_special_tokens=False) == truth(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ids) == truth.decode(ids, skip_special_tokens=True)
        assert ours.decode(ids, skip_special_tokens=False) == truth.decode(ids)


def test_what_it_knows(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ m }}")
    ours = Tokenizer.load(str(folder))
    assert (ours.bos_token, ours.bos_token_id, ours.eos_token, ours.eos_token_id) == ("<|bos|>", 0, "<|eos|>", 1)
    assert ours.special_token_ids == {0, 1}
    assert ours.chat_template == "{{ m }}"
    assert ours.vocab_size == trained().get_vocab_size()
    assert ours.id_to_token(1) == "<|eos|>"
    assert ours.has_id(ours.vocab_size - 1)
    for token_id in (-1, ours.vocab_size, 2**40):
        assert ours.id_to_token(token_id) is None
        assert not ours.has_id(token_id)


def test_no_text_has_fewer_tokens_than_its_length_says(folder: Path) -> None:
    ours = Tokenizer.load(folder)
    assert ours.max_chars_per_token == max(map(len, trained().get_vocab()))
    for text in [*TEXTS, *CORPUS]:
        assert len(ours.encode(text)) >= len(text) / ours.max_chars_per_token


def test_prompts_are_never_cut_or_padded_unasked(folder: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(max_length=3)
    backend.enable_padding(length=64)
    backend.save(str(folder / "tokenizer.json"))
    ours = Tokenizer.load(folder)
    assert len(ours.encode("a")) == 2
    assert len(ours.encode("abc def ghi jkl")) > 5


def test_half_a_surrogate_pair_is_the_client_s_error(folder: Path) -> None:
    with pytest.raises(InvalidRequestError, match="its character 2 is half of a surrogate pair"):
        Tokenizer.load(folder).encode("ab\ud83d")


def test_a_text_without_tokens_is_the_client_s_error(tmp_path: Path) -> None:
    tokenizers.Tokenizer(models.Unigram([("a", -1.0)])).save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path)
    assert ours.encode("a") == [0]
    for encode in (lambda: ours.encode("b"), lambda: ours.encode_batch(["a", "b"])):
        with pytest.raises(InvalidRequestError, match=r"this model's tokenizer has no tokens for the text: .*unk_id"):
            encode()


def test_special_tokens_of_an_older_folder(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    (folder / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|eos|>"}}')
    ours = Tokenizer.load(folder)
    assert (ours.bos_token_id, ours.eos_token_id) == (None, 1)


def test_a_special_token_that_is_no_token_is_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    configure(folder, bos_token="<none>", add_bos_token=True)
    ours = Tokenizer.load(folder)
    assert (ours.bos_token, ours.encode("")) == (None, [])
    assert "'<none>', which is not in the vocabulary" in caplog.text


def test_a_panic_of_the_package_is_a_broken_file(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["continuing_subword_prefix"] = "#" * 9  # longer than the halves of its merges
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelFileError, match=r"tokenizer\.json is not a usable tokenizer"):
        Tokenizer.load(folder)


def test_half_a_surrogate_pair_is_no_special_token(folder: Path) -> None:
    configure(folder, bos_token="<|bos|>", eos_token="<\ud800|eos|>")
    assert Tokenizer.load(folder).eos_token is None


@pytest.mark.parametrize("eos", ["</s:", "a:1", ":", "$A", "$B:7"])
def test_a_special_token_may_be_any_text(folder: Path, eos: str) -> None:
    backend = trained()
    backend.add_special_tokens([AddedToken(eos, normalized=False)])
    backend.save(str(folder / "tokenizer.json"))
    configure(folder, bos_token="<|bos|>", eos_token=eos, add_bos_token=True, add_eos_token=True)
    ours = Tokenizer.load(folder)
    ids = ours.encode("the fox")
    assert (ids[0], ids[-1]) == (0, backend.token_to_id(eos))
    assert ids[1:-1] == ours.encode("the fox", add_special_tokens=False)


def test_folders_without_a_usable_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"has no tokenizer\.json; name a folder .* --tokenizer"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(ModelFileError, match="AutoTokenizer"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE"')
    with pytest.raises(ModelFileError, match=r"tokenizer\.json is not a usable tokenizer"):
        Tokenizer.load(tmp_path)


def test_paths_that_hold_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such tokenizer"):
        Tokenizer.load(tmp_path / "gone")
    (tmp_path / "tokenizer.json").touch()
    with pytest.raises(ModelFileError, match=r"give the folder that holds its tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_senseless_settings_are_named(folder: Path) -> None:
    configure(folder, add_bos_token="yes")
    with pytest.raises(ModelFileError, match="'add_bos_token' is 'yes'; it must be true or false"):
        Tokenizer.load(folder)
