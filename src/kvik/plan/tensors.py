"""ModelSpec -> the matrices and vectors that a model of it has, of one device of several that share it.

Says in numbers what the files in models/ declare in layers; a test holds the two together. Knows no format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kvik.modelfile.spec import ModelSpec

_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class MatrixGroup:
    """Matrices of one input, which are kept as one where their formats are the same."""

    rows_by_name: tuple[tuple[str, int], ...]
    """Name, as Hugging Face has it, and outputs."""
    num_columns: int
    """Inputs."""
    is_table: bool = False
    """Rows are only looked up."""

    @property
    def num_elements(self) -> int:
        return sum(rows for _, rows in self.rows_by_name) * self.num_columns


def cannot_share(spec: ModelSpec, num_devices: int) -> str | None:
    """Why the model cannot be split over so many devices; None where it can."""
    for size, what in ((spec.num_heads, "query heads"), (spec.intermediate_size, "features of the MLP")):
        if size % num_devices:
            return f"{num_devices} devices cannot share {size} {what} evenly"
    if max(spec.num_kv_heads, num_devices) % min(spec.num_kv_heads, num_devices):
        return f"{num_devices} devices cannot share {spec.num_kv_heads} key-value heads evenly"
    return None


def of_one_device(spec: ModelSpec, num_devices: int) -> ModelSpec:
    """The spec whose heads, features and rows of the vocabulary are one device's share; the hidden size is whole.

    Where there are fewer key-value heads than devices, each has one, and some hold the same.
    """
    return replace(
        spec,
        num_heads=spec.num_heads // num_devices,
        num_kv_heads=max(1, spec.num_kv_heads // num_devices),
        intermediate_size=spec.intermediate_size // num_devices,
        vocab_size=-(-spec.vocab_size // num_devices),
    )


def matrices(spec: ModelSpec) -> Iterator[MatrixGroup]:
    """All matrices, each once; a tied head is the embedding."""
    tied = spec.tie_word_embeddings
    yield MatrixGroup(((_EMBEDDING, spec.vocab_size),), spec.hidden_size, is_table=not tied)
    for layer in range(spec.num_layers):
        yield from _layer(spec, f"model.layers.{layer}")
    if not tied:
        yield MatrixGroup(((_HEAD, spec.vocab_size),), spec.hidden_size)


def _layer(spec: ModelSpec, prefix: str) -> Iterator[MatrixGroup]:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
    qkv = ((f"{attention}.q_proj.weight", q), (f"{attention}.k_proj.weight", kv), (f"{attention}.v_proj.weight", kv))
    yield MatrixGroup(qkv, hidden)
    yield MatrixGroup(((f"{attention}.o_proj.weight", hidden),), q)
    yield MatrixGroup(((f"{mlp}.gate_proj.weight", inner), (f"{mlp}.up_proj.weight", inner)), hidden)
    yield MatrixGroup(((f"{mlp}.down_proj.weight", hidden),), inner)


def num_vector_elements(spec: ModelSpec) -> int:
    """Elements of all norms and biases."""
    hidden, head = spec.hidden_size, spec.head_dim
    q, kv = spec.num_heads * head, spec.num_kv_heads * head
    is_gemma = spec.architecture == "Gemma3ForCausalLM"
    norms = (4 if is_gemma else 2) * hidden
    norms += 2 * head if is_gemma or spec.architecture == "Qwen3ForCausalLM" else 0
    is_qwen2 = spec.architecture == "Qwen2ForCausalLM"
    biases = q + 2 * kv if spec.attention_bias or is_qwen2 else 0
    biases += hidden if spec.attention_output_bias and not is_qwen2 else 0
    biases += 2 * spec.intermediate_size + hidden if spec.mlp_bias else 0
    return spec.num_layers * (norms + biases) + hidden


def num_parameters(spec: ModelSpec) -> int:
    """Numbers that the model has learnt; a tied head is counted once."""
    return sum(group.num_elements for group in matrices(spec)) + num_vector_elements(spec)


def rotary_elements(spec: ModelSpec, max_positions: int) -> int:
    """Of the tables of cosines and sines; a model with sliding layers of their own frequencies has two."""
    num_tables = 2 if spec.architecture == "Gemma3ForCausalLM" else 1
    return num_tables * max_positions * spec.head_dim
