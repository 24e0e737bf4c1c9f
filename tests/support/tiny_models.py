"""Tiny models of random weights, and batches for them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.layers.formats import FormatOf
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.models import Model, build_model

BLOCK = 16
LLAMA = ModelSpec(
    architecture="LlamaForCausalLM", vocab_size=97, hidden_size=64, intermediate_size=96, num_layers=2, num_heads=4,
    num_kv_heads=2, head_dim=16, max_position_embeddings=64, rms_norm_eps=1e-5, rope=RopeSpec(theta=10000.0),
)  # fmt: skip
SPECS = {
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": replace(LLAMA, sliding_windows=(7, 7)),
    "Qwen2ForCausalLM": replace(LLAMA, attention_bias=True, num_kv_heads=4),
    "Qwen3ForCausalLM": replace(LLAMA, head_dim=32, num_kv_heads=1),
    "Gemma3ForCausalLM": replace(
        LLAMA, activation="gelu_tanh", tie_word_embeddings=True, sliding_windows=(9, 0), head_dim=32
    ),
}


@dataclass
class TinyModel:
    """A model and two caches, so that two ways to compute can be compared by what they write as well."""

    model: Model
    kv: list[LayerKV]
    other_kv: list[LayerKV]

    @classmethod
    def of(
        cls, architecture: str = "LlamaForCausalLM", formats: FormatOf | None = None, num_layers: int = 2
    ) -> TinyModel:
        spec = replace(SPECS[architecture], architecture=architecture, num_layers=num_layers)
        model = build_model(spec, torch.float32, format_of=formats)
        model.load_dummy(seed=3)
        return cls(model, cache_of(spec), cache_of(spec))

    def batches(self, *lengths: int) -> tuple[ForwardBatch, ForwardBatch]:
        """Prompts of these lengths, the same for both caches."""
        return batch_of(self.kv, *lengths), batch_of(self.other_kv, *lengths)


def cache_of(spec: ModelSpec) -> list[LayerKV]:
    shape = (17, spec.num_kv_heads, spec.head_dim, BLOCK, torch.float16)
    return [LayerKV(*allocate_kv_cache(*shape)) for _ in range(spec.num_layers)]


def batch_of(kv: list[LayerKV], *lengths: int) -> ForwardBatch:
    """Requests whose prompts are computed whole; each has blocks of its own."""
    width = -(-max(lengths) // BLOCK)
    tables = 1 + torch.arange(len(lengths) * width, dtype=torch.int32).view(-1, width)
    positions = torch.cat([torch.arange(length, dtype=torch.int32) for length in lengths])
    rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    ends = torch.tensor(lengths, dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return ForwardBatch(
        token_ids=(positions * 7 + rows.int() * 13 + len(lengths)) % 97,
        positions=positions,
        slot_mapping=tables[rows, positions // BLOCK] * BLOCK + positions % BLOCK,
        query_start_loc=torch.cat([torch.zeros(1, dtype=torch.int32), ends]),
        seq_lens=torch.tensor(lengths, dtype=torch.int32),
        block_tables=tables,
        logits_rows=ends - 1,
        kv=kv,
    )
