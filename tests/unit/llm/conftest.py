"""A model folder without weights, and an executor in the place of the one that would need them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fakes.byte_tokenizer import VOCAB_SIZE, byte_tokenizer
from fakes.fake_executor import FakeExecutor
from kvik import LLM

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
    "bos_token_id": 262,
    "eos_token_id": 263,
}
TEMPLATE = "{% for m in messages %}{{ bos_token }}{{ m.role }}:{{ m.content }}{% endfor %}"


class Executors:
    """Stands in for the module `kvik.executor.choice`; keeps what it made."""

    def __init__(self) -> None:
        self.kind = FakeExecutor
        self.made: list[FakeExecutor] = []

    def make(self, config: Any) -> FakeExecutor:
        self.made.append(self.kind(block_size=16, max_model_len=128, vocab_size=256))
        return self.made[-1]


@pytest.fixture
def executors(monkeypatch: pytest.MonkeyPatch) -> Executors:
    executors = Executors()
    module = ModuleType("kvik.executor.choice")
    module.make_executor = executors.make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kvik.executor.choice", module)
    return executors


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.5, "eos_token_id": [263, 264]}))
    tokenizer_config = {"bos_token": "<|start|>", "eos_token": "<|end|>", "chat_template": TEMPLATE}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    byte_tokenizer().backend.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path)


@pytest.fixture
def llm(executors: Executors, model: str) -> Iterator[LLM]:
    with LLM(model, max_num_seqs=4, load_format="dummy") as llm:
        yield llm
