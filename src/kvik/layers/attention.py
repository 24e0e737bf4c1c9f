"""Causal attention over the paged cache: rotate q and k, write k and v, attend. Projections are the caller's."""

from __future__ import annotations

import math

import torch

from kvik.errors import ModelFileError
from kvik.kernels.paged_attention.cache import FP8_LARGEST
from kvik.kernels.rope import rope_and_cache
from kvik.layers.batch import ForwardBatch
from kvik.layers.norm import RMSNorm
from kvik.layers.parameters import ParameterTable
from kvik.layers.rotary import RotaryTable
from kvik.modelfile.spec import ModelSpec
from kvik.parallel.share import even_share


class Attention:
    """qkv [T, (Hq + 2 Hkv) D] -> [T, Hq D] for one layer, through that layer's keys and values in the batch."""

    __slots__ = (
        "_cos_sin",
        "_eps",
        "_head_dim",
        "_k_norm",
        "_k_scale",
        "_layer",
        "_num_heads",
        "_num_kv_heads",
        "_q_norm",
        "_scale",
        "_unit_offset",
        "_v_scale",
        "_window",
    )

    def __init__(
        self,
        spec: ModelSpec,
        layer: int,
        rotary: RotaryTable,
        table: ParameterTable,
        *,
        window: int = 0,
        q_norm: RMSNorm | None = None,
        k_norm: RMSNorm | None = None,
    ) -> None:
        """`window`: tokens that a query sees, itself included; 0 is all. `q_norm`, `k_norm`: per head, before rope.

        Where workers share the model, each has a part of the heads.
        """
        group = table.group
        self._layer = layer
        self._cos_sin = rotary.cos_sin
        self._num_heads = even_share(spec.num_heads, group.rank, group.size).size
        self._num_kv_heads = even_share(spec.num_kv_heads, group.rank, group.size).size
        self._head_dim = spec.head_dim
        self._scale = spec.head_dim**-0.5 if spec.query_scale is None else spec.query_scale
        self._window = window
        self._q_norm = q_norm.weight if q_norm is not None else None
        self._k_norm = k_norm.weight if k_norm is not None else None
        self._eps = q_norm.eps if q_norm is not None else 0.0
        self._unit_offset = q_norm.unit_offset if q_norm is not None else False
        self._k_scale = self._v_scale = 1.0  # of a cache of 8-bit floats
        prefix = f"model.layers.{layer}.self_attn"
        table.optional(f"{prefix}.k_scale", 1, self._take_k_scale)
        table.optional(f"{prefix}.v_scale", 1, self._take_v_scale)

    @property
    def width(self) -> int:
        """Of what comes out, Hq D."""
        return self._num_heads * self._head_dim

    @property
    def qkv_width(self) -> int:
        """Of what comes in, (Hq + 2 Hkv) D."""
        return (self._num_heads + 2 * self._num_kv_heads) * self._head_dim

    def __call__(self, qkv: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        if batch.at_attention is not None:
            return batch.at_attention(self.attend, qkv)
        return self.attend(qkv, batch)

    def attend(self, qkv: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        kv = batch.kv[self._layer]
        k_scale, v_scale = (self._k_scale, self._v_scale) if kv.k.dtype in FP8_LARGEST else (1.0, 1.0)
        q = rope_and_cache(
            qkv,
            self._cos_sin,
            batch.positions,
            batch.slot_mapping,
            kv.k,
            kv.v,
            num_heads=self._num_heads,
            num_kv_heads=self._num_kv_heads,
            q_norm=self._q_norm,
            k_norm=self._k_norm,
            eps=self._eps,
            unit_offset=self._unit_offset,
            k_scale=k_scale,
            v_scale=v_scale,
        )
        return kv.attention(
            q,
            kv.k,
            kv.v,
            batch.block_tables,
            batch.query_start_loc,
            batch.seq_lens,
            num_kv_heads=self._num_kv_heads,
            head_dim=self._head_dim,
            scale=self._scale,
            window=self._window,
            max_query_len=batch.max_query_len,
            k_scale=k_scale,
            v_scale=v_scale,
        )

    def _take_k_scale(self, values: torch.Tensor) -> None:
        self._k_scale = _scale_of("k_scale", self._layer, values)

    def _take_v_scale(self, values: torch.Tensor) -> None:
        self._v_scale = _scale_of("v_scale", self._layer, values)


def _scale_of(name: str, layer: int, values: torch.Tensor) -> float:
    """Raises ModelFileError for what cannot be divided by."""
    scale = float(values.item())
    if not 0 < scale < math.inf:
        raise ModelFileError(f"tensor model.layers.{layer}.self_attn.{name} is {scale}; it must be a number above 0")
    return scale
