"""What a checkpoint says of itself, typed. Read once at the door; nothing below parses a config again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Llama3RopeScaling:
    """Llama 3.1's frequency scaling: long wavelengths are stretched, short ones kept, a ramp between."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True)
class RopeSpec:
    """Rotary position embedding: base frequency, and how it is stretched."""

    theta: float
    linear_factor: float = 1.0
    """Positions are divided by this."""
    llama3: Llama3RopeScaling | None = None


@dataclass(frozen=True)
class ModelSpec:
    """Shape and constants of a decoder. Lengths are in elements, positions in tokens."""

    architecture: str
    """The name in `architectures`, such as "LlamaForCausalLM"."""
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: RopeSpec
    activation: str = "silu"
    """"silu", or "gelu_tanh" for the tanh form of GELU."""
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    """q, k and v projections have a bias."""
    attention_output_bias: bool = False
    mlp_bias: bool = False
    query_scale: float | None = None
    """Factor on q k^T; None is 1 / sqrt(head_dim)."""
    sliding_windows: tuple[int, ...] = ()
    """Per layer, tokens that a query sees, itself included; 0 is all. Empty: all layers see all."""
    local_rope: RopeSpec | None = None
    """What layers with a sliding window use instead of `rope`, where the model says so (Gemma 3)."""
    dtype: str = "bfloat16"
    """The checkpoint's own: "bfloat16", "float16" or "float32"."""
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    """The first is the EOS token proper; the others end an answer like stop token ids."""

    def sliding_window(self, layer: int) -> int:
        return self.sliding_windows[layer] if self.sliding_windows else 0

    def kv_bytes_per_token(self, dtype_bytes: int, scale_bytes: int = 0) -> int:
        """Bytes of keys and values that one token takes in all layers; each of a head may have a scale beside it."""
        return 2 * self.num_layers * self.num_kv_heads * (self.head_dim * dtype_bytes + scale_bytes)
