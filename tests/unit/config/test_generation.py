from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvik.config.args import EngineArgs
from kvik.config.generation import GenerationDefaults, with_given_eos_ids
from kvik.errors import ConfigError
from kvik.modelfile import ModelFile, ModelSpec, RopeSpec

SPEC = ModelSpec("LlamaForCausalLM", 32, 8, 16, 1, 2, 1, 4, 64, 1e-5, RopeSpec(theta=1.0))
OWN = {"temperature": 0.6, "top_p": 0.9, "do_sample": True, "eos_token_id": [1, 2], "max_new_tokens": 7, "top_k": None}


def defaults(tmp_path: Path, **given: Any) -> dict[str, Any]:
    return everything(tmp_path, **given).sampling_params


def everything(tmp_path: Path, **given: Any) -> GenerationDefaults:
    return EngineArgs(**given).generation_defaults(ModelFile(tmp_path, "hf", SPEC, dict(OWN), None, {}))


def test_the_models_own_are_taken_as_far_as_they_concern_sampling(tmp_path: Path) -> None:
    assert defaults(tmp_path) == {"temperature": 0.6, "top_p": 0.9, "max_tokens": 7}


@pytest.mark.parametrize("source", ["vllm", "kvik"])
def test_none(tmp_path: Path, source: str) -> None:
    assert defaults(tmp_path, generation_config=source) == {}


def test_those_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"min_p": 0.1}))
    assert defaults(tmp_path, generation_config=str(tmp_path)) == {"min_p": 0.1}


def test_an_override_is_laid_over(tmp_path: Path) -> None:
    override = {"temperature": 0.1, "repetition_penalty": 1.1}
    assert defaults(tmp_path, override_generation_config=override) == {
        "temperature": 0.1, "top_p": 0.9, "max_tokens": 7, "repetition_penalty": 1.1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"generation_config": "/no/such"}, "takes auto, kvik, vllm or a folder; cannot read /no/such"),
        ({"override_generation_config": {"temprature": 1}}, "does not know temprature; it takes temperature"),
        ({"override_generation_config": {"temperature": 3}}, "temperature must be from 0 to 2, got 3"),
        ({"override_generation_config": {"temperature": "hot"}}, "temperature must be a number, got 'hot'"),
        ({"override_generation_config": {"top_k": 1.5}}, "top_k must be an integer, got 1.5"),
        ({"override_generation_config": [1]}, "takes a JSON object"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        defaults(tmp_path, **given)
    assert message in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("{", "is no JSON"), ("[]", "must hold a JSON object")])
def test_a_broken_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        defaults(tmp_path, generation_config=str(tmp_path))


@pytest.mark.parametrize(
    ("given", "cap"),
    [({}, None), ({"override_generation_config": {"max_new_tokens": 5}}, 5), ({"generation_config": "vllm"}, None)],
)
def test_only_what_was_given_caps_answers(tmp_path: Path, given: dict[str, Any], cap: int | None) -> None:
    assert everything(tmp_path, **given).max_tokens_cap == cap


def test_a_folder_caps_answers_and_an_override_goes_before_it(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"max_new_tokens": 6}))
    assert everything(tmp_path, generation_config=str(tmp_path)).max_tokens_cap == 6
    override = {"max_new_tokens": 9}
    both = everything(tmp_path, generation_config=str(tmp_path), override_generation_config=override)
    assert both == GenerationDefaults({"max_tokens": 9}, 9)
    off = everything(tmp_path, generation_config=str(tmp_path), override_generation_config={"max_new_tokens": None})
    assert off == GenerationDefaults({}, None)


def test_a_default_fits_the_context() -> None:
    assert GenerationDefaults({"max_tokens": 2048, "top_p": 0.5}).within(1024) == {"max_tokens": 1024, "top_p": 0.5}
    assert GenerationDefaults({"top_p": 0.5}).within(1024) == {"top_p": 0.5}


def test_a_bad_value_names_its_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"max_new_tokens": "x"}))
    with pytest.raises(ConfigError, match=r"generation_config\.json: max_new_tokens must be an integer, got 'x'"):
        everything(tmp_path, generation_config=str(tmp_path))


def test_keys_without_a_meaning_here_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"typical_p": 0.5, "num_beams": 4, "do_sample": True}))
    with caplog.at_level("INFO"):
        assert defaults(tmp_path, generation_config=str(tmp_path)) == {}
    assert "ignored: num_beams, typical_p" in caplog.text


def test_tokens_that_end_answers_are_added(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 6]}))
    args = EngineArgs(generation_config=str(tmp_path), override_generation_config={"eos_token_id": 7})
    assert with_given_eos_ids(SPEC, args).eos_token_ids == (*SPEC.eos_token_ids, 7, 5, 6)
    assert with_given_eos_ids(SPEC, EngineArgs()) == SPEC


@pytest.mark.parametrize("value", [32, -1, "2", [1, None], True, {"a": 1}])
def test_tokens_that_cannot_end_answers(value: object) -> None:
    args = EngineArgs(override_generation_config={"eos_token_id": value})
    with pytest.raises(ConfigError, match=r"--override-generation-config: eos_token_id must be a token id below 32"):
        with_given_eos_ids(SPEC, args)
