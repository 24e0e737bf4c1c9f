"""What must hold of every ModelSpec, whichever file it came from. Knows no file format."""

from __future__ import annotations

from typing import Final

from kvik.errors import ModelFileError
from kvik.modelfile.spec import ModelSpec

MAX_LAYERS: Final = 4096
"""Tuples of one entry per layer are made, so their number is bounded first."""


def check_spec(spec: ModelSpec, source: str) -> None:
    """Raises ModelFileError, naming the numbers, where two of them contradict each other."""
    if spec.num_heads % spec.num_kv_heads:
        _fail(source, f"{spec.num_heads} query heads cannot share {spec.num_kv_heads} key-value heads evenly")
    if spec.head_dim % 2:
        _fail(source, f"head_dim is {spec.head_dim}; rotary embedding needs an even one")
    for token_id in (*spec.eos_token_ids, *([] if spec.bos_token_id is None else [spec.bos_token_id])):
        if token_id >= spec.vocab_size:
            _fail(source, f"token id {token_id} is outside the vocabulary of {spec.vocab_size}")


def _fail(source: str, problem: str) -> None:
    raise ModelFileError(f"{source}: {problem}")
