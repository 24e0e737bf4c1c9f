"""What models do apart from being right: shards of a checkpoint, dummy weights, positions, independence of rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from kvik.errors import ModelFileError
from kvik.modelfile import open_model
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.models import build_model
from kvik.weights import open_checkpoint

SPEC = ModelSpec(
    architecture="LlamaForCausalLM",
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
    max_position_embeddings=20,
    rms_norm_eps=1e-5,
    rope=RopeSpec(theta=10000.0),
)
PROMPT = [(7 * i) % 61 + 3 for i in range(30)]


@pytest.fixture
def folder(transformers: ModuleType, tmp_path: Path) -> Path:
    """A Llama of several shards."""
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    return tmp_path


def test_reports_each_shard(folder: Path) -> None:
    model_file = open_model(str(folder))
    seen: list[tuple[str, int, int]] = []
    build_model(model_file.spec, torch.float32).load(open_checkpoint(model_file), lambda *args: seen.append(args))
    total = len(list(folder.glob("*.safetensors")))
    assert [num_done for _, num_done, _ in seen] == list(range(1, total + 1))
    assert {num_shards for _, _, num_shards in seen} == {total}


def test_missing_tensors_are_named(folder: Path) -> None:
    model_file = open_model(str(folder))
    model = build_model(replace(model_file.spec, num_layers=3), torch.float32)
    with pytest.raises(ModelFileError, match=r"lacks 9 of .*model\.layers\.2\."):
        model.load(open_checkpoint(model_file))


def test_dummy_weights_depend_on_the_seed_only(paged_driver: Any) -> None:
    def logits(seed: int) -> torch.Tensor:
        model = build_model(replace(SPEC, max_position_embeddings=64), torch.bfloat16)
        model.load_dummy(seed)
        return paged_driver(model).prompt_logits(PROMPT)

    first = logits(1)
    assert first.isfinite().all()
    assert torch.equal(first, logits(1))
    assert not torch.equal(first, logits(2))


def test_max_positions_lengthens_the_rope_tables(paged_driver: Any) -> None:
    made_for = build_model(replace(SPEC, max_position_embeddings=64), torch.float32)
    stretched = build_model(SPEC, torch.float32, max_positions=len(PROMPT))
    for model in (made_for, stretched):
        model.load_dummy(0)
    assert torch.equal(paged_driver(made_for).prompt_logits(PROMPT), paged_driver(stretched).prompt_logits(PROMPT))


def test_logits_do_not_depend_on_neighbours(paged_driver: Any) -> None:
    """Bit for bit: a prompt alone, and the same prompt between two others."""
    model = build_model(replace(SPEC, max_position_embeddings=64), torch.bfloat16)
    model.load_dummy(0)
    alone = paged_driver(model).prompt_logits(PROMPT)
    driver = paged_driver(model)
    chunks = [(driver.request(prompt, 0), len(prompt)) for prompt in (PROMPT[:7], PROMPT, PROMPT[5:])]
    hidden = model.forward(driver.batch(chunks))
    rows = torch.arange(7, 7 + len(PROMPT), dtype=torch.int32)
    assert torch.equal(model.logits(hidden, rows), alone)
