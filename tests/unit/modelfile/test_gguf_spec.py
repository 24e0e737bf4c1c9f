from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvik.errors import ModelFileError, UnsupportedArchitectureError
from kvik.modelfile import ModelSpec, RopeSpec, open_model
from kvik.modelfile.architectures import parse_config
from support.gguf_files import HEAD_DIM, HIDDEN, VOCAB, decoder_metadata, decoder_tensors, write_gguf

TOKENS: dict[str, Any] = {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}


def spec_of(
    tmp_path: Path,
    architecture: str = "llama",
    *,
    tensors: dict[str, np.ndarray] | None = None,
    extra: dict[str, Any] | None = None,
    quantized: dict[str, str] | None = None,
    **changes: Any,
) -> ModelSpec:
    metadata = decoder_metadata(architecture, **changes) | TOKENS | (extra or {})
    weights = decoder_tensors(architecture) if tensors is None else tensors
    return open_model(write_gguf(tmp_path / "x.gguf", metadata, weights, quantized)).spec


CONFIG: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "float32",
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    ("architecture", "name", "config"),
    [
        ("llama", "LlamaForCausalLM", {}),
        ("qwen2", "Qwen2ForCausalLM", {}),
        ("qwen3", "Qwen3ForCausalLM", {}),
        ("gemma3", "Gemma3ForCausalLM", {"query_pre_attn_scalar": HEAD_DIM, "sliding_window": 32}),
    ],
)
def test_the_same_model_gives_the_same_spec_from_either_format(
    tmp_path: Path, architecture: str, name: str, config: dict[str, Any]
) -> None:
    changes = {"attention__sliding_window": 32} if architecture == "gemma3" else {}
    truth = parse_config({"architectures": [name], **CONFIG, **config}, "config.json")
    assert spec_of(tmp_path, architecture, **changes) == truth


def test_without_an_output_tensor_embeddings_are_tied(tmp_path: Path) -> None:
    assert spec_of(tmp_path, tensors=decoder_tensors(tied=True)).tie_word_embeddings


def test_a_window_in_a_llama_file_makes_it_a_mistral(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, attention__sliding_window=48)
    assert spec.architecture == "MistralForCausalLM"
    assert spec.sliding_windows == (48, 48)


@pytest.mark.parametrize(
    ("pattern", "windows"), [(None, (32, 32)), (2, (32, 0)), ([False, True], (0, 32)), ([True, True], (32, 32))]
)
def test_gemma3_pattern_of_windows(tmp_path: Path, pattern: Any, windows: tuple[int, ...]) -> None:
    changes = {"attention__sliding_window": 32, "attention__sliding_window_pattern": pattern}
    assert spec_of(tmp_path, "gemma3", **changes).sliding_windows == windows


def test_gemma3_scaling_is_of_the_full_layers(tmp_path: Path) -> None:
    changes = {"rope__scaling__type": "linear", "rope__scaling__factor": 8.0, "rope__freq_base": 1e6}
    spec = spec_of(tmp_path, "gemma3", attention__sliding_window=32, **changes)
    assert spec.rope == RopeSpec(1e6, linear_factor=8.0)
    assert spec.local_rope == RopeSpec(1e4)


def test_heads_given_per_layer_may_be_equal(tmp_path: Path) -> None:
    assert spec_of(tmp_path, attention__head_count_kv=[2, 2]).num_kv_heads == 2
    with pytest.raises(ModelFileError, match="head_count_kv' differs from layer to layer"):
        spec_of(tmp_path, attention__head_count_kv=[2, 4])


def test_all_ids_that_end_an_answer_eos_first(tmp_path: Path) -> None:
    further = {"tokenizer.ggml.eot_token_id": 7, "tokenizer.ggml.eom_token_id": 2}
    assert spec_of(tmp_path, extra=further).eos_token_ids == (2, 7)


def test_dtype_is_that_of_the_matrices(tmp_path: Path) -> None:
    assert spec_of(tmp_path).dtype == "float32"
    assert spec_of(tmp_path, quantized={"blk.0.attn_q.weight": "q4_0"}).dtype == "bfloat16"


def test_an_unknown_architecture_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"'qwen2vl' is not supported.*nearest is qwen2"):
        spec_of(tmp_path, "qwen2vl")


@pytest.mark.parametrize(
    ("changes", "extra", "complaint"),
    [
        ({"block_count": None}, {}, "'llama.block_count' is missing"),
        ({"block_count": 10**9}, {}, "'llama.block_count' is 1000000000"),
        ({"embedding_length": 32}, {}, "'token_embd.weight' has shape"),
        ({"attention__head_count_kv": 3}, {}, "4 query heads cannot share 3"),
        ({"rope__dimension_count": 8}, {}, "heads must be rotated whole"),
        ({"rope__scaling__type": "yarn"}, {}, "'yarn'; supported are none and linear"),
        ({"expert_count": 8}, {}, "mixtures of experts"),
        ({}, {"split.count": 3}, "one part of several"),
        ({}, {"tokenizer.ggml.eos_token_id": VOCAB}, f"token id {VOCAB} is outside the vocabulary"),
        ({"context_length": "long"}, {}, "'llama.context_length' is 'long'; it must be an integer"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], extra: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        spec_of(tmp_path, extra=extra, **changes)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tensors = decoder_tensors()
    del tensors["token_embd.weight"]
    with pytest.raises(ModelFileError, match=r"tensor 'token_embd\.weight' is missing"):
        spec_of(tmp_path, tensors=tensors)


def test_a_format_that_no_kernel_reads_is_named(tmp_path: Path) -> None:
    tensors = decoder_tensors() | {"blk.0.attn_q.weight": np.ones((64, 256), np.float32)}
    with pytest.raises(ModelFileError, match=r"'blk\.0\.attn_q\.weight' is stored as tq1_0; readable are f32"):
        spec_of(tmp_path, tensors=tensors, quantized={"blk.0.attn_q.weight": "tq1_0"})
