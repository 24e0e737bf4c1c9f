"""What torch.compile sees of the kernels. Imported only where something is compiled, since it loads the compiler.

Norms, activations and sums are traced as their reference in plain torch, which inductor fuses. Matrix products and
lookups in weights that are laid out for kernels are ops that it does not look into, and so is attention with its
write of keys and values. Nothing changes for code that is not being traced.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence

import torch

from kvik.config.compilation import ATTENTION_OP
from kvik.kernels import arena
from kvik.kernels.embedding import embedding
from kvik.kernels.embedding import reference as embedding_reference
from kvik.kernels.gated_activation import gated_activation
from kvik.kernels.gated_activation import reference as activation_reference
from kvik.kernels.linear import PackedWeight, linear
from kvik.kernels.linear import reference as linear_reference
from kvik.kernels.rms_norm import add_rms_norm, rms_norm
from kvik.kernels.rms_norm import reference as norm_reference
from kvik.layers.attention import Attention
from kvik.layers.batch import Attend, ForwardBatch
from kvik.parallel.group import Group

# --- attention ---------------------------------------------------------------------------------------


class AttentionPoints:
    """The attentions of one model, in the order in which a pass meets them, and the batch that is being computed.

    An op takes tensors and numbers only, so a traced attention is named by the number of this object and its place.
    """

    def __init__(self, attentions: Sequence[Attention], width: int) -> None:
        """`width`: features that each attention gives."""
        self.attentions = list(attentions)
        self.width = width
        self.number = next(_numbers)
        self.batch: ForwardBatch | None = None
        """Set by the one who calls the compiled pass, for the time of the call."""
        _points[self.number] = self

    def at_attention(self, attend: Attend, qkv: torch.Tensor) -> torch.Tensor:
        """`ForwardBatch.at_attention` while a pass is traced."""
        for index, attention in enumerate(self.attentions):
            if attention is attend.__self__:  # type: ignore[attr-defined]
                attended: torch.Tensor = torch.ops.kvik.attention(qkv, self.number, index, self.width)
                return attended
        raise LookupError("an attention that the model's layers do not have")


_numbers = itertools.count()
_points: weakref.WeakValueDictionary[int, AttentionPoints] = weakref.WeakValueDictionary()


@torch.library.custom_op("kvik::attention", mutates_args=())
def _attention(qkv: torch.Tensor, points: int, index: int, width: int) -> torch.Tensor:
    """qkv [T, (Hq + 2 Hkv) D] -> [T, width]; keys and values go to the cache of the batch under way."""
    return attention(qkv, points, index, width)


def attention(qkv: torch.Tensor, points: int, index: int, width: int) -> torch.Tensor:
    """What the op does. Between two pieces it is called plainly, since capturing begins and ends inside of it."""
    at = _points[points]
    batch = at.batch
    if batch is None:
        raise RuntimeError("a compiled pass was called without a batch")
    attend = at.attentions[index].attend
    return attend(qkv, batch) if batch.at_attention is None else batch.at_attention(attend, qkv)


@_attention.register_fake
def _(qkv: torch.Tensor, points: int, index: int, width: int) -> torch.Tensor:
    return qkv.new_empty(qkv.shape[0], width)


FUNCTIONS = {ATTENTION_OP: attention}
"""What graphs may be split at."""

# --- workers that share a model ----------------------------------------------------------------------

_groups: weakref.WeakValueDictionary[int, Group] = weakref.WeakValueDictionary()
"""By their size: a process is a worker of one."""


def enter_group(group: Group) -> None:
    """Those whose sums are in the graphs of this process from now on."""
    if group.size > 1:
        _groups[group.size] = group


@torch.library.custom_op("kvik::sum_of_workers", mutates_args=("x",))
def _sum_of_workers(x: torch.Tensor, size: int) -> None:
    """`Group.sum`."""
    _groups[size].sum(x)


@_sum_of_workers.register_fake
def _(x: torch.Tensor, size: int) -> None:
    pass


# --- weights that only kernels read ------------------------------------------------------------------


@torch.library.custom_op("kvik::linear", mutates_args=())
def _linear(
    x: torch.Tensor,
    data: torch.Tensor,
    bias: torch.Tensor | None,
    n: int,
    k: int,
    format: str,
    is_packed: bool,
    is_for_gpu: bool,
    input_scale: torch.Tensor | None,
) -> torch.Tensor:
    return linear(x, PackedWeight(n, k, format, data, is_packed, is_for_gpu, input_scale), bias)


@_linear.register_fake
def _(
    x: torch.Tensor,
    data: torch.Tensor,
    bias: torch.Tensor | None,
    n: int,
    k: int,
    format: str,
    is_packed: bool,
    is_for_gpu: bool,
    input_scale: torch.Tensor | None,
) -> torch.Tensor:
    return x.new_empty(x.shape[0], n)


@torch.library.custom_op("kvik::embedding", mutates_args=())
def _embedding(
    ids: torch.Tensor,
    data: torch.Tensor,
    n: int,
    k: int,
    format: str,
    is_packed: bool,
    is_for_gpu: bool,
    dtype: torch.dtype,
    scale: float,
) -> torch.Tensor:
    return embedding(ids, PackedWeight(n, k, format, data, is_packed, is_for_gpu), dtype, scale)


@_embedding.register_fake
def _(
    ids: torch.Tensor,
    data: torch.Tensor,
    n: int,
    k: int,
    format: str,
    is_packed: bool,
    is_for_gpu: bool,
    dtype: torch.dtype,
    scale: float,
) -> torch.Tensor:
    return data.new_empty(ids.shape[0], k, dtype=dtype)


# --- what a trace has in place of the kernels --------------------------------------------------------


@torch.compiler.substitute_in_graph(rms_norm)
def _traced_rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, *, unit_offset: bool = False) -> torch.Tensor:
    return norm_reference.rms_norm(x, weight, eps, unit_offset=unit_offset)


@torch.compiler.substitute_in_graph(add_rms_norm)
def _traced_add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float, *, unit_offset: bool = False
) -> torch.Tensor:
    return norm_reference.add_rms_norm(x, residual, weight, eps, unit_offset=unit_offset)


@torch.compiler.substitute_in_graph(gated_activation)
def _traced_gated_activation(x: torch.Tensor, kind: str) -> torch.Tensor:
    return activation_reference.gated_activation(x, kind)


@torch.compiler.substitute_in_graph(linear)
def _traced_linear(
    x: torch.Tensor,
    weight: PackedWeight,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    out_column: int = 0,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    if weight.is_packed or weight.has_blocks:
        y: torch.Tensor = torch.ops.kvik.linear(
            x, weight.data, bias, weight.n, weight.k, weight.format, weight.is_packed, weight.is_for_gpu,
            weight.input_scale,
        )  # fmt: skip
    else:
        y = linear_reference.linear(x, weight.data, bias)
    if out is None:
        return y if dtype is None else y.to(dtype)
    view = out[:, out_column : out_column + weight.n]
    view.copy_(y)
    return view


@torch.compiler.substitute_in_graph(embedding)
def _traced_embedding(
    ids: torch.Tensor, table: torch.Tensor | PackedWeight, dtype: torch.dtype, scale: float = 1.0
) -> torch.Tensor:
    if isinstance(table, PackedWeight):
        if table.is_packed or table.has_blocks:
            rows: torch.Tensor = torch.ops.kvik.embedding(
                ids, table.data, table.n, table.k, table.format, table.is_packed, table.is_for_gpu, dtype, scale
            )
            return rows
        table = table.data
    return embedding_reference.embed(table.index_select(0, ids.long()), dtype, scale)  # inductor checks the bounds


@torch.compiler.substitute_in_graph(arena.empty_beside)
def _traced_empty_beside(x: torch.Tensor, columns: int) -> torch.Tensor:
    return x.new_empty(x.shape[0], columns)
