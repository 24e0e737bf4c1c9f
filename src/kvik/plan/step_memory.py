"""What an engine takes beside weights and KV cache: results of a step, the framework, slots of adapters.

Computed from the configuration alone, so that a plan and a start come to the same number of blocks.
"""

from __future__ import annotations

from kvik.config.engine import EngineConfig
from kvik.modelfile.spec import ModelSpec
from kvik.plan.formats import Kind
from kvik.plan.kv_cache import KVElements
from kvik.plan.tensors import matrices, of_one_device, rotary_elements

FP32_BYTES = 4
FRAMEWORK_BYTES = 384 << 20
"""An engine process before its first step, without weights and rotary tables: the interpreter, torch, its threads, and
what reading the weights leaves behind. 250 to 320 MiB were seen."""
API_PROCESS_BYTES = 160 << 20
"""What the other process of a server holds when its engine sizes the cache, rounded up: 114 MiB were seen."""
_GRAIN = 32
"""Shares of the machine's memory in which the free part is counted."""
_KV_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "float8_e4m3fn": 1, "float8_e5m2": 1}
_KV_SCALE_BYTES = {"int8": 4}


def kv_cache_dtype(config: EngineConfig, kind: Kind = "cpu") -> str:
    """How keys and values are stored. "auto" is the model's dtype on a GPU; on a CPU fp16 for a bf16 model, as many
    bytes and 11 significant bits, not 8."""
    if config.cache.kv_cache_dtype != "auto":
        return config.cache.kv_cache_dtype
    if kind != "cpu":
        return config.model.dtype
    return "float32" if config.model.dtype == "float32" else "float16"


def kv_elements(dtype: str) -> KVElements:
    return KVElements(_KV_BYTES[dtype], _KV_SCALE_BYTES.get(dtype, 0))


def usable_memory_bytes(total_bytes: int, unused_bytes: int) -> int:
    """What there is for an engine on a machine of `total_bytes` of which `unused_bytes` are not held by others.

    In whole 32nds of the total: on a quiet machine that is the same from one start to the next, and so is the number of
    blocks.
    """
    grain = max(1, total_bytes // _GRAIN)
    if unused_bytes < grain:
        return unused_bytes
    return min(total_bytes, unused_bytes // grain * grain)


def framework_bytes(config: EngineConfig) -> int:
    """The engine's process without weights, and the tables of rotary positions, fp32."""
    spec = config.model.spec
    positions = config.model.max_model_len or spec.max_position_embeddings
    return FRAMEWORK_BYTES + rotary_elements(spec, positions) * FP32_BYTES


def activation_bytes(config: EngineConfig, share: ModelSpec | None = None, kind: Kind = "cpu") -> int:
    """Most bytes of intermediate tensors that are alive at once in a step that uses the whole token budget.

    On a CPU all of them are fp32, whatever the model's dtype; on a GPU those of layers are in that dtype. The widest
    moment of a layer is the gated MLP: residual, what the layer before added to it, attention's output, its norm, gate
    and up, their product; or attention: the first two, a norm, q, k and v, q rotated, the output. At the end the logits
    of every request and draft stand beside the sampler's copy. `share` is the part of the model that one of several
    devices has.
    """
    spec, scheduler = share or share_of(config), config.scheduler
    mlp = 4 * spec.hidden_size + 3 * spec.intermediate_size
    attention = 3 * spec.hidden_size + (3 * spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    layer_elements = scheduler.max_num_batched_tokens * max(mlp, attention) * 5 // 4  # an arena has gaps
    logits_elements = 2 * max_logits_rows(config) * config.model.spec.vocab_size
    if config.lora is not None:  # steps with adapters: x A^T of q, k and v; a result and logits of their own
        rank = -(-config.lora.max_lora_rank // 16) * 16
        layer_elements += scheduler.max_num_batched_tokens * (3 * rank + spec.hidden_size)
        logits_elements += max_logits_rows(config) * config.model.spec.vocab_size
    if kind == "cpu":
        return FP32_BYTES * (layer_elements + logits_elements)
    return _KV_BYTES[config.model.dtype] * layer_elements + FP32_BYTES * logits_elements + _count_table_bytes(config)


def sampling_bytes(config: EngineConfig) -> int:
    """What choosing tokens on a GPU takes beside the logits: a table of counts, and a copy of the logits."""
    return _count_table_bytes(config) + FP32_BYTES * max_logits_rows(config) * config.model.spec.vocab_size


def _count_table_bytes(config: EngineConfig) -> int:
    """How often each request has each token, for penalties."""
    return 4 * config.scheduler.max_num_seqs * config.model.spec.vocab_size


def max_logits_rows(config: EngineConfig) -> int:
    """Positions of one step whose logits may be wanted: one of each request, and those behind drafts."""
    num_drafts = config.speculative.max_drafts_per_step if config.speculative is not None else 0
    return config.scheduler.max_num_seqs + num_drafts


def share_of(config: EngineConfig) -> ModelSpec:
    """Heads, features and rows of the vocabulary that one worker has."""
    size = config.parallel.tensor_parallel_size
    return config.model.spec if size == 1 else of_one_device(config.model.spec, size)


def adapters_bytes(config: EngineConfig, share: ModelSpec | None = None) -> int:
    """Slots of LoRA adapters beside every linear layer of the decoder, as the kernels lay them out.

    `share`: the part of the model that one of several devices has.
    """
    lora = config.lora
    if lora is None:
        return 0
    itemsize, unit = {"float32": (4, 1), "bfloat16": (2, 2), "float16": (2, 1)}[lora.dtype]
    step_bytes = 16 * unit * itemsize
    rank_panels, rank_steps = -(-lora.max_lora_rank // 16), -(-lora.max_lora_rank // unit)
    per_slot = 0
    for group in matrices(share or share_of(config)):
        if not group.rows_by_name[0][0].startswith("model.layers."):
            continue
        num_parts = len(group.rows_by_name)
        a = num_parts * rank_panels * -(-group.num_columns // unit) * step_bytes
        b = sum(-(-rows // 16) for _, rows in group.rows_by_name) * rank_steps * step_bytes
        per_slot += a + b + num_parts * 8  # a rank and a scale
    return lora.max_cpu_loras * per_slot
