from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvik.errors import ModelFileError, UnsupportedArchitectureError
from kvik.modelfile import open_model
from support.gguf_files import decoder_metadata, decoder_tensors, write_gguf

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "eos_token_id": 2,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_folder(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "eos_token_id": [7, 2, 9]}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    model = open_model(str(folder))
    assert (model.path, model.format) == (folder, "hf")
    assert model.spec.eos_token_ids == (2, 7, 9)
    assert model.generation_config["temperature"] == 0.6
    assert model.chat_template == "{{ messages }}"
    assert model.raw_config == CONFIG


def test_a_folder_with_nothing_but_a_config(folder: Path) -> None:
    model = open_model(folder)
    assert (model.generation_config, model.chat_template, model.spec.eos_token_ids) == ({}, None, (2,))


def test_a_scheme_beside_the_config(folder: Path) -> None:
    """As NVIDIA's Model Optimizer wrote it for long; what config.json says comes first."""
    beside = folder / "hf_quant_config.json"
    told = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    beside.write_text(json.dumps(told))
    found = open_model(folder)
    assert (found.quantization_method, found.quantization and found.quantization.fp8) == ("modelopt", "fp8_static")
    told["quantization"] = {"quant_algo": None, "kv_cache_quant_algo": None}
    beside.write_text(json.dumps(told))
    assert open_model(folder).quantization is None
    told["quantization"] = {"quant_algo": "W4A8_AWQ"}
    beside.write_text(json.dumps(told))
    with pytest.raises(ModelFileError, match=r"hf_quant_config.json: quantization: field 'quant_algo' is 'W4A8_AWQ'"):
        open_model(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": "fp8"}}))
    assert open_model(folder).quantization_method == "fp8"


@pytest.mark.parametrize("name", ["model.gguf", "blob"])
def test_a_gguf_file_whatever_its_name(tmp_path: Path, name: str) -> None:
    metadata = decoder_metadata() | {"tokenizer.chat_template": "{{ x }}", "tokenizer.ggml.tokens": ["a"]}
    model = open_model(write_gguf(tmp_path / name, metadata, decoder_tensors()))
    assert (model.format, model.chat_template, model.generation_config) == ("gguf", "{{ x }}", {})
    assert model.raw_config["llama.context_length"] == 128
    assert "tokenizer.ggml.tokens" not in model.raw_config


def test_no_such_path(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no such model: .*/org/name.*kvik downloads nothing"):
        open_model(tmp_path / "org" / "name")


def test_a_folder_that_is_no_model_says_what_is_there(tmp_path: Path) -> None:
    for index in range(10):
        (tmp_path / f"file{index}.txt").touch()
    with pytest.raises(ModelFileError, match=r"not a model: .* has no config\.json \(it holds file0.* and 2 more\)"):
        open_model(tmp_path)


def test_a_folder_with_a_gguf_points_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    with pytest.raises(ModelFileError, match=r"give the file itself: .*/m\.gguf"):
        open_model(tmp_path)


def test_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").touch()
    with pytest.raises(ModelFileError, match="merge it into its base model"):
        open_model(tmp_path)


def test_a_file_that_is_no_gguf(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"1234")
    with pytest.raises(ModelFileError, match="give the folder that holds it"):
        open_model(folder / "model.safetensors")


def test_an_end_outside_the_vocabulary_names_the_file_that_says_so(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": 100}')
    with pytest.raises(ModelFileError, match=r"generation_config\.json: token id 100 is outside"):
        open_model(folder)


def test_errors_keep_their_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"architectures": ["T5Model"]}))
    with pytest.raises(UnsupportedArchitectureError):
        open_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"config\.json is not usable JSON"):
        open_model(folder)


def test_needs_neither_torch_nor_numpy() -> None:
    code = "import sys, kvik.modelfile; assert not {'torch', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
