"""Fills a model's declared parameters from a checkpoint, one shard at a time, and says what does not fit.

Peak memory is the packed weights and one shard: each tensor goes from the mapped file straight into the kernels'
layout, and a shard's pages are dropped before the next is read. To another device it goes as `layers/upload.py` sends
it. Knows tensor names only as strings to compare.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace

from kvik.errors import ModelFileError
from kvik.layers.parameters import Parameter, ParameterTable
from kvik.layers.store import store_rows
from kvik.layers.upload import Upload
from kvik.telemetry.log import get_logger, log_once
from kvik.weights import Checkpoint, RawTensor
from kvik.weights.lane import Lane

__all__ = ["Checkpoint", "OnBytes", "OnShard", "load_parameters"]

_logger = get_logger(__name__)

OnShard = Callable[[str, int, int], None]
"""Called as each shard is done: its name, how many are done, how many there are."""
OnBytes = Callable[[int], None]
"""Called as each tensor is done: its bytes, as stored."""

_HARMLESS_SUFFIXES = (".inv_freq", ".masked_bias", ".attn.bias", ".q_scale", ".prob_output_scale")
"""Of buffers that old checkpoints stored, and of scales for what is not rounded here: queries, weights of attention."""
_NAMES_IN_MESSAGE = 5


def load_parameters(
    table: ParameterTable,
    checkpoint: Checkpoint,
    on_shard: OnShard | None = None,
    on_bytes: OnBytes | None = None,
    lane: Lane | None = None,
) -> None:
    """Copy every declared tensor from the checkpoint to its place, by `lane` where that is on another device.

    Raises `ModelFileError` for a tensor that is missing, has another shape or comes twice. Tensors that the
    model does not know are left out with one warning.
    """
    seen: set[str] = set()
    unknown: list[str] = []
    tell = on_bytes or (lambda num_bytes: None)
    with ExitStack() as stack:
        copy: _InPlace | Upload = _InPlace(tell) if lane is None else stack.enter_context(Upload(lane, tell))
        for num_done, shard in enumerate(checkpoint.shards(), start=1):
            for raw in shard.tensors(read_ahead=lane is None):
                if raw.name in seen:
                    raise ModelFileError(f"tensor {raw.name} is in the checkpoint twice, again in {shard.name}")
                seen.add(raw.name)
                parameter = table.by_name.get(raw.name)
                if parameter is not None:
                    _check_shape(raw, parameter)
                    copy.tensor(_own_rows(raw, parameter), parameter)
                    continue
                if not _is_harmless(raw.name, table):
                    unknown.append(raw.name)
                tell(raw.data.nbytes)
            copy.finish_shard()
            shard.release()
            if on_shard is not None:
                on_shard(shard.name, num_done, checkpoint.num_shards)
    _check_complete(table, seen)
    if unknown:
        text = "%s does not use %d tensors of the checkpoint: %s"
        log_once(_logger, logging.WARNING, text, table.architecture, len(unknown), _some(unknown))


class _InPlace:
    """From the mapped file to memory that the host writes, a tensor at a time."""

    def __init__(self, on_bytes: OnBytes) -> None:
        self._on_bytes = on_bytes

    def tensor(self, raw: RawTensor, parameter: Parameter) -> None:
        store_rows(parameter, 0, raw.fmt, raw.data, raw.scales)
        self._on_bytes(raw.data.nbytes)

    def finish_shard(self) -> None:
        """All is done already."""


def _check_shape(raw: RawTensor, parameter: Parameter) -> None:
    if (raw.shape or (1,)) != parameter.stored_shape:
        raise ModelFileError(
            f"tensor {raw.name} has shape {list(raw.shape)}, but the model's configuration makes it "
            f"{list(parameter.stored_shape)}; the configuration and the weights are not of the same model"
        )


def _own_rows(raw: RawTensor, parameter: Parameter) -> RawTensor:
    """The rows that this worker has, which are all that it reads. Columns are cut where rows are stored."""
    share = parameter.row_share
    if share is None or share.is_whole:
        return raw
    row_bytes = raw.data.nbytes // share.whole
    first, end = share.first * row_bytes, share.end * row_bytes
    span = raw.span and replace(raw.span, offset=raw.span.offset + first)
    scales = None if raw.scales is None else raw.scales[share.first : share.end]
    return replace(raw, shape=(share.size, *raw.shape[1:]), data=raw.data[first:end], span=span, scales=scales)


def _is_harmless(name: str, table: ParameterTable) -> bool:
    return name in table.unused or name.endswith(_HARMLESS_SUFFIXES)


def _check_complete(table: ParameterTable, seen: set[str]) -> None:
    missing = [p.name for p in table.by_name.values() if p.name not in seen and not p.optional]
    if missing:
        raise ModelFileError(
            f"the checkpoint lacks {len(missing)} of the {len(table.by_name)} tensors of {table.architecture}: "
            f"{_some(missing)}; a shard may be missing, or the files are of another architecture"
        )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    rest = len(listed) - _NAMES_IN_MESSAGE
    return ", ".join(listed[:_NAMES_IN_MESSAGE]) + (f" and {rest} more" if rest > 0 else "")
