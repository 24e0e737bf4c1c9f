"""GGUF metadata -> ModelSpec. Names keys as the GGUF document of the ggml project does.

A GGUF says less than a config.json: what it leaves out (biases, tied embeddings) shows in which tensors it has, and
Llama 3.1's scaling of frequencies comes as the tensor rope_freqs.weight, which the weights room hands on.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from kvik.errors import ModelFileError, UnsupportedArchitectureError
from kvik.modelfile.checks import MAX_LAYERS, check_spec
from kvik.modelfile.fields import Fields
from kvik.modelfile.gguf import GgufArray, GgufHeader, GgufTensor
from kvik.modelfile.gguf_types import READABLE_TYPES
from kvik.modelfile.spec import ModelSpec, RopeSpec

_ARCHITECTURES: Final = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
}
_DTYPES: Final = {"f32": "float32", "f16": "float16"}
_GEMMA3_27B_LAYERS: Final = 62


def parse_gguf_metadata(header: GgufHeader) -> ModelSpec:
    """The spec of the model in the file. Raises as architectures.parse_config does."""
    reader = _Metadata(header)
    architecture = reader.architecture()
    _refuse_unreadable(header)
    spec = _decoder(reader, _ARCHITECTURES[architecture])
    if architecture == "gemma3":
        spec = _gemma3(reader, spec)
    elif window := reader.fields.read(int, reader.key("attention.sliding_window"), 0):
        # Files of Mistral call themselves "llama"; the window is what tells them apart.
        name = "MistralForCausalLM" if architecture == "llama" else spec.architecture
        spec = replace(spec, architecture=name, sliding_windows=(window,) * spec.num_layers)
    check_spec(spec, str(header.path))
    return spec


class _Metadata:
    """The metadata of one file; keys are completed with the architecture's name."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.fields = Fields(header.metadata, str(header.path))
        self._prefix = self.fields.read(str, "general.architecture")

    def key(self, name: str) -> str:
        return f"{self._prefix}.{name}"

    def size(self, name: str, default: int | None = None, *, largest: int = 2**31 - 1) -> int:
        key = self.key(name)
        return (
            self.fields.size(key, largest=largest)
            if default is None
            else self.fields.size(key, default, largest=largest)
        )

    def uniform_size(self, name: str, default: int | None = None) -> int:
        """A size that some files give per layer; it must be the same in all."""
        value = self.header.metadata.get(self.key(name))
        if not isinstance(value, GgufArray):
            return self.size(name, default)
        values = set(value.values) if value.count <= MAX_LAYERS else set()
        if len(values) != 1:
            raise self.fields.error(self.key(name), "differs from layer to layer; no model here is like that")
        return Fields({name: values.pop()}, self.fields.source).size(name)

    def architecture(self) -> str:
        if self._prefix not in _ARCHITECTURES:
            nearest = get_close_matches(self._prefix, _ARCHITECTURES, n=1)
            raise UnsupportedArchitectureError(
                f"{self.header.path}: GGUF architecture {self._prefix!r} is not supported; supported are "
                f"{', '.join(_ARCHITECTURES)}" + (f"; the nearest is {nearest[0]}" if nearest else "")
            )
        return self._prefix

    def tensor(self, name: str) -> GgufTensor:
        tensor = self.header.tensors.get(name)
        if tensor is None:
            raise ModelFileError(f"{self.header.path}: tensor {name!r} is missing")
        return tensor


def _decoder(reader: _Metadata, architecture: str) -> ModelSpec:
    tensors = reader.header.tensors
    hidden_size, num_heads = reader.size("embedding_length"), reader.uniform_size("attention.head_count")
    head_dim = reader.size("attention.key_length", max(1, hidden_size // num_heads))
    return ModelSpec(
        architecture=architecture,
        vocab_size=_vocab_size(reader, hidden_size),
        hidden_size=hidden_size,
        intermediate_size=reader.uniform_size("feed_forward_length"),
        num_layers=reader.size("block_count", largest=MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=reader.uniform_size("attention.head_count_kv", num_heads),
        head_dim=head_dim,
        max_position_embeddings=reader.size("context_length"),
        rms_norm_eps=reader.fields.positive(reader.key("attention.layer_norm_rms_epsilon")),
        rope=_rope(reader, head_dim),
        tie_word_embeddings="output.weight" not in tensors,
        attention_bias="blk.0.attn_q.bias" in tensors,
        attention_output_bias="blk.0.attn_output.bias" in tensors,
        mlp_bias="blk.0.ffn_down.bias" in tensors,
        dtype=_DTYPES.get(reader.tensor("blk.0.attn_q.weight").type.name, "bfloat16"),
        bos_token_id=next(iter(reader.fields.token_ids("tokenizer.ggml.bos_token_id")), None),
        eos_token_ids=_eos_token_ids(reader.fields),
    )


def _gemma3(reader: _Metadata, spec: ModelSpec) -> ModelSpec:
    if reader.fields.read(float, reader.key("final_logit_softcapping"), 0.0):
        raise reader.fields.error(reader.key("final_logit_softcapping"), "is set; only models without it can be run")
    window = reader.size("attention.sliding_window")
    # Files do not say it; the 27B model alone scales queries by the share of a head in the hidden size.
    scaled_by = spec.hidden_size / spec.num_heads if spec.num_layers == _GEMMA3_27B_LAYERS else spec.head_dim
    return replace(
        spec,
        activation="gelu_tanh",
        query_scale=float(scaled_by) ** -0.5,
        sliding_windows=tuple(window if slides else 0 for slides in _gemma3_pattern(reader, spec.num_layers)),
        local_rope=RopeSpec(reader.fields.positive(reader.key("rope.freq_base_swa"), 10_000.0)),
    )


def _gemma3_pattern(reader: _Metadata, num_layers: int) -> list[bool]:
    """Which layers have the window: given one by one, or all but every n-th, 6th unless said otherwise."""
    key = reader.key("attention.sliding_window_pattern")
    value = reader.header.metadata.get(key)
    if not isinstance(value, GgufArray):
        period = reader.fields.size(key, 6)
        return [bool((layer + 1) % period) for layer in range(num_layers)]
    if value.count != num_layers:
        raise reader.fields.error(key, f"has {value.count} entries for {num_layers} layers")
    return [bool(slides) for slides in value.values]


def _rope(reader: _Metadata, head_dim: int) -> RopeSpec:
    fields = reader.fields
    if reader.size("rope.dimension_count", head_dim) != head_dim:
        raise fields.error(
            reader.key("rope.dimension_count"), f"is not head_dim, {head_dim}; heads must be rotated whole"
        )
    if reader.size("attention.value_length", head_dim) != head_dim:
        raise fields.error(reader.key("attention.value_length"), f"is not the length of keys, {head_dim}")
    scaling = fields.read(str, reader.key("rope.scaling.type"), "linear")
    if scaling not in ("none", "linear"):
        raise fields.error(reader.key("rope.scaling.type"), f"is {scaling!r}; supported are none and linear")
    if "rope_factors_long.weight" in reader.header.tensors:
        raise ModelFileError(f"{reader.header.path}: tensor 'rope_factors_long.weight': longrope is not supported")
    factor = fields.positive(reader.key("rope.scaling.factor"), 1.0) if scaling == "linear" else 1.0
    theta = fields.positive(reader.key("rope.freq_base"), 10_000.0)
    return RopeSpec(theta, linear_factor=factor)


def _vocab_size(reader: _Metadata, hidden_size: int) -> int:
    """Rows of the embedding: some files leave `vocab_size` out, and it is the rows that ids index."""
    embedding = reader.tensor("token_embd.weight")
    if len(embedding.shape) != 2 or embedding.shape[1] != hidden_size:
        raise ModelFileError(
            f"{reader.header.path}: tensor 'token_embd.weight' has shape {list(embedding.shape)}; "
            f"its rows must have the embedding_length, {hidden_size}"
        )
    return embedding.shape[0]


def _eos_token_ids(fields: Fields) -> tuple[int, ...]:
    """EOS, then what else ends an answer: end of turn, end of message."""
    names = ("eos_token_id", "eot_token_id", "eom_token_id")
    ids = (token_id for name in names for token_id in fields.token_ids(f"tokenizer.ggml.{name}"))
    return tuple(dict.fromkeys(ids))


def _refuse_unreadable(header: GgufHeader) -> None:
    fields = Fields(header.metadata, str(header.path))
    if fields.read(int, "split.count", 1) > 1:
        raise fields.error(
            "split.count", "says that this is one part of several; join them with llama-gguf-split --merge"
        )
    experts = f"{fields.read(str, 'general.architecture')}.expert_count"
    if fields.read(int, experts, 0):
        raise UnsupportedArchitectureError(f"{header.path}: {experts} is set; mixtures of experts are not supported")
    for tensor in header.tensors.values():
        if tensor.type.name not in READABLE_TYPES:
            raise ModelFileError(
                f"{header.path}: tensor {tensor.name!r} is stored as {tensor.type.name}; readable are "
                f"{', '.join(READABLE_TYPES)}. Take a file quantised as Q8_0, Q4_K_M or the like"
            )
